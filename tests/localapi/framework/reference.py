"""The resource of docs/api.md as one writes it with Django REST framework: model, serializer, view set,
routes. Nothing of ours is used.

What the framework cannot know is written out as the contract says it: the three validations, the scopes of
keys, that a body is judged before anybody looks for the automation, and that `run` never reads its body.
"""

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar
from zoneinfo import available_timezones

import django
from croniter import croniter
from django.conf import settings
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import JsonResponse
from django.urls import re_path

KEYS = {"reads": ("task:read",), "writes": ("task:write",), "both": ("task:read", "task:write")}
"""The scopes of each key; the project of all of them is 1."""
INTEGRATION = 7
"""The one GitHub integration that there is."""

settings.configure(
    ALLOWED_HOSTS=["*"],
    APPEND_SLASH=False,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["rest_framework"],
    LOGGING={  # thousands of bad requests are what it is for
        "version": 1,
        "disable_existing_loggers": False,
        "loggers": {"django.request": {"level": "CRITICAL"}},
    },
    MIDDLEWARE=[],
    REST_FRAMEWORK={
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
        "DEFAULT_PARSER_CLASSES": [
            "rest_framework.parsers.JSONParser",
            "rest_framework.parsers.FormParser",
        ],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "EXCEPTION_HANDLER": "exceptions_hog.exception_handler",
        "PAGE_SIZE": 100,
        "UNAUTHENTICATED_USER": None,
    },
    ROOT_URLCONF=__name__,
    TIME_ZONE="UTC",
    SECRET_KEY="a test",
    USE_TZ=True,
)
django.setup()

# Only now: models belong to configured applications.
from django.db import models
from rest_framework import serializers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action
from rest_framework.exceptions import AuthenticationFailed, NotFound, PermissionDenied
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle


class Pagination(LimitOffsetPagination):
    max_limit = 10_000  # `[api] max_page`


def _now() -> datetime:
    return datetime.now(UTC)


class Integration(models.Model):
    class Meta:
        app_label = "reference"


class TaskAutomation(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255)
    prompt = models.TextField()
    repository = models.CharField(max_length=255)
    github_integration = models.ForeignKey(Integration, null=True, blank=True, on_delete=models.SET_NULL)
    cron_expression = models.CharField(max_length=100)
    timezone = models.CharField(max_length=128, default="UTC")
    template_id = models.CharField(max_length=255, null=True, blank=True)
    enabled = models.BooleanField(default=True)
    last_run_at = models.DateTimeField(null=True, editable=False)
    last_run_status = models.CharField(max_length=20, null=True, editable=False)
    last_task_id = models.CharField(max_length=36, default=uuid.uuid4, editable=False)
    last_task_run_id = models.CharField(max_length=36, null=True, editable=False)
    last_error = models.TextField(null=True, editable=False)
    created_at = models.DateTimeField(default=_now, editable=False)
    updated_at = models.DateTimeField(default=_now, editable=False)

    class Meta:
        app_label = "reference"
        ordering: ClassVar = ["name", "-created_at"]


class TaskAutomationSerializer(serializers.ModelSerializer):
    class Meta:
        model = TaskAutomation
        fields = (
            "id",
            "name",
            "prompt",
            "repository",
            "github_integration",
            "cron_expression",
            "timezone",
            "template_id",
            "enabled",
            "last_run_at",
            "last_run_status",
            "last_task_id",
            "last_task_run_id",
            "last_error",
            "created_at",
            "updated_at",
        )

    def validate_repository(self, value: str) -> str:
        parts = value.strip().lower().split("/")
        if len(parts) != 2 or not parts[0] or not parts[1]:
            raise serializers.ValidationError("Repository must be in the format organization/repository")
        return "/".join(parts)

    def validate_cron_expression(self, value: str) -> str:
        if len(value.split()) != 5:
            raise serializers.ValidationError(
                "Only standard 5-field cron expressions are supported (minute hour day month "
                "weekday). Example: '0 9 * * 1-5'."
            )
        if not croniter.is_valid(value):
            raise serializers.ValidationError(
                "Invalid cron expression. Use standard 5-field cron syntax (e.g., '0 9 * * 1-5')."
            )
        return value

    def validate_timezone(self, value: str) -> str:
        if value not in available_timezones():
            raise serializers.ValidationError(f"'{value}' is not a valid IANA timezone.")
        return value


class _User:
    is_authenticated = True

    def __init__(self, scopes: tuple[str, ...]) -> None:
        self.scopes = scopes


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[_User, None] | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return None
        if key.strip() not in KEYS:
            raise AuthenticationFailed("Personal API key found in request Authorization header is invalid.")
        return _User(KEYS[key.strip()]), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HasScope(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        name = {"metadata": "task:read", "list": "task:read", "retrieve": "task:read", None: None}.get(
            view.action, "task:write"
        )
        if (
            request.method == "POST" and view.action == "metadata"
        ):  # SimpleMetadata asks whether it could be posted to
            name = "task:write"
        if name is not None and not {name, "task:write"} & set(request.user.scopes):
            raise PermissionDenied(f"API key missing required scope '{name}'")
        return True


class Throttle(SimpleRateThrottle):
    limit: ClassVar[str | None] = None
    """As ``3/min``; None for none."""

    def get_rate(self) -> str | None:
        return self.limit

    def get_cache_key(self, request: Request, view: Any) -> str:
        return "all"


class TaskAutomationViewSet(viewsets.ModelViewSet):
    """Automations: prompts that are run on a schedule."""

    http_method_names = ("get", "post", "patch", "delete", "head", "options")
    authentication_classes = (KeyAuthentication,)
    permission_classes = (IsAuthenticated, HasScope)
    throttle_classes = (Throttle,)
    pagination_class = Pagination
    serializer_class = TaskAutomationSerializer
    queryset = TaskAutomation.objects.all()

    def get_queryset(self) -> Any:
        if self.kwargs["project"] not in {"1", "@current"}:
            raise NotFound
        return TaskAutomation.objects.all()

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        self.get_queryset()
        serializer.save()
        return Response(serializer.data, status=201)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        judged = self.get_serializer(data=request.data, partial=True)
        judged.is_valid(raise_exception=True)
        serializer = self.get_serializer(self.get_object(), data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        serializer.save(updated_at=_now())
        return Response(serializer.data)

    @action(detail=True, methods=["post"])
    def run(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        automation = self.get_object()
        automation.last_run_at = automation.updated_at = _now()
        automation.last_run_status, automation.last_error = "running", None
        automation.last_task_run_id = str(uuid.uuid4())
        automation.save()
        return Response(self.get_serializer(automation).data)


def no_endpoint(request: Any) -> JsonResponse:
    body = {"type": "invalid_request", "code": "not_found", "detail": "Endpoint not found.", "attr": None}
    return JsonResponse(body, status=404, json_dumps_params={"separators": (",", ":")})


_ALL = r"^api/projects/(?P<project>[^/.]+)/task_automations"
_ONE = rf"{_ALL}/(?P<pk>[^/.]+)"
urlpatterns = [
    re_path(rf"{_ALL}/?$", TaskAutomationViewSet.as_view({"get": "list", "post": "create"}, suffix="List")),
    re_path(
        rf"{_ONE}/?$",
        TaskAutomationViewSet.as_view(
            {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}, suffix="Instance"
        ),
    ),
    re_path(rf"{_ONE}/run/?$", TaskAutomationViewSet.as_view({"post": "run"}, name="Run")),
    re_path(r"", no_endpoint),
]

application = get_wsgi_application()


def prepare() -> None:
    """Make the tables, in the one thread that asks from then on: the database lives in the memory of its
    connection.
    """
    with connection.schema_editor() as editor:
        editor.create_model(Integration)
        editor.create_model(TaskAutomation)
    Integration.objects.create(pk=INTEGRATION)


def empty() -> None:
    """Forget all automations and requests."""
    TaskAutomation.objects.all().delete()
    cache.clear()
