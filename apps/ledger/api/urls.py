from django.urls import path

from apps.ledger.api.views import BalancesView, StatementView

urlpatterns = [
    path("balances", BalancesView.as_view(), name="balances"),
    path("statement", StatementView.as_view(), name="statement"),
]
