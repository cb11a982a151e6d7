"""The production's hasher with less to do. Tests of its cost take the real one."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class QuickArgon2Hasher(Argon2PasswordHasher):
    time_cost = 1
    memory_cost = 1_024
    parallelism = 1
