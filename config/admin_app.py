from django.contrib.admin import apps


class AdminConfig(apps.AdminConfig):
    """The admin with the site of ours."""

    default_site = "apps.accounts.adminsite.site.Site"
