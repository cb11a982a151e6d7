from django.urls import path

from apps.plans.api import quote, views

urlpatterns = [
    path("plans", views.PlansView.as_view(), name="plans"),
    path("plans/preview", views.PreviewView.as_view(), name="plan-preview-new"),
    path("plans/<uuid:plan_id>", views.PlanView.as_view(), name="plan"),
    path("plans/<uuid:plan_id>/pause", views.PlanPauseView.as_view(), name="plan-pause"),
    path("plans/<uuid:plan_id>/resume", views.PlanResumeView.as_view(), name="plan-resume"),
    path("plans/<uuid:plan_id>/cancel", views.PlanCancelView.as_view(), name="plan-cancel"),
    path("plans/<uuid:plan_id>/preview", views.PlanPreviewView.as_view(), name="plan-preview"),
    path("plans/<uuid:plan_id>/slots", views.PlanSlotsView.as_view(), name="plan-slots"),
    path("slots/<uuid:slot_id>", views.SlotView.as_view(), name="slot"),
    *quote.urlpatterns,
]
