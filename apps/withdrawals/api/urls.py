from django.urls import path

from apps.withdrawals.api import views

urlpatterns = [
    path("withdrawals", views.WithdrawalsView.as_view(), name="withdrawals"),
    path("withdrawals/quote", views.WithdrawalQuoteView.as_view(), name="withdrawal-quote"),
    path("withdrawals/<uuid:withdrawal_id>", views.WithdrawalView.as_view(), name="withdrawal"),
    path(
        "withdrawals/<uuid:withdrawal_id>/cancel",
        views.WithdrawalCancelView.as_view(),
        name="withdrawal-cancel",
    ),
    path(
        "withdrawals/<uuid:withdrawal_id>/confirm",
        views.WithdrawalConfirmView.as_view(),
        name="withdrawal-confirm",
    ),
    path("withdrawal-destinations", views.DestinationsView.as_view(), name="withdrawal-destinations"),
    path(
        "withdrawal-destinations/<uuid:destination_id>",
        views.DestinationView.as_view(),
        name="withdrawal-destination",
    ),
]
