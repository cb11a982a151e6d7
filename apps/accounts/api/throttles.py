"""How often. Counted in the cache; when the cache is away, nobody is shut out for it."""

import logging

from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

logger = logging.getLogger(__name__)


class KeyCreationThrottle(UserRateThrottle):
    """`REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]["keys"]` per person."""

    scope = "keys"

    def allow_request(self, request: Request, view: APIView) -> bool:
        try:
            return bool(super().allow_request(request, view))
        except RedisError as error:
            logger.warning("throttle without its cache", extra={"error": type(error).__name__})
            return True
