from django.urls import path

from apps.deposits.api import views

urlpatterns = [
    path("deposit-addresses", views.DepositAddressesView.as_view(), name="deposit-addresses"),
    path("deposits", views.DepositsView.as_view(), name="deposits"),
    path("deposits/<uuid:deposit_id>", views.DepositView.as_view(), name="deposit"),
]
