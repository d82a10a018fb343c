"""Metrics for Prometheus, which knows no dots in names: ``gen_ai.client.token.usage`` becomes an underscored name."""

from typing import Generic, Self, TypeVar

from temporalio.common import (
    MetricAttributes,
    MetricCommon,
    MetricCounter,
    MetricGauge,
    MetricGaugeFloat,
    MetricHistogram,
    MetricHistogramFloat,
    MetricHistogramTimedelta,
    MetricMeter,
)
from temporalio.runtime import LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig

from sojourn.types.telemetry import HISTOGRAM_BUCKETS

M = TypeVar("M", bound=MetricCommon)


def underscored(name: str) -> str:
    """The name as Prometheus takes it."""
    return name.replace(".", "_")


class PrometheusRuntime(Runtime):
    """A runtime of Temporal's SDK whose metrics, ours and the SDK's, are at ``/metrics`` of an address."""

    def __init__(self, address: str, *, logging: LoggingConfig) -> None:
        buckets = {underscored(name): bounds for name, bounds in HISTOGRAM_BUCKETS.items()}
        metrics = PrometheusConfig(
            address, counters_total_suffix=True, durations_as_seconds=True, histogram_bucket_overrides=buckets
        )
        super().__init__(telemetry=TelemetryConfig(logging=logging, metrics=metrics, attach_service_name=False))
        self._underscored = _Meter(super().metric_meter)

    @property
    def metric_meter(self) -> MetricMeter:
        """What workers hand to workflows and activities."""
        return self._underscored


def _flat(attributes: MetricAttributes | None) -> MetricAttributes | None:
    return None if attributes is None else {underscored(name): value for name, value in attributes.items()}


class _Meter(MetricMeter):
    def __init__(self, inner: MetricMeter) -> None:
        self._inner = inner

    def create_counter(self, name: str, description: str | None = None, unit: str | None = None) -> MetricCounter:
        return _Counter(self._inner.create_counter(underscored(name), description, unit))

    def create_histogram(self, name: str, description: str | None = None, unit: str | None = None) -> MetricHistogram:
        return _Histogram(self._inner.create_histogram(underscored(name), description, unit))

    def create_histogram_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramFloat:
        return _HistogramFloat(self._inner.create_histogram_float(underscored(name), description, unit))

    def create_histogram_timedelta(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramTimedelta:
        return self._inner.create_histogram_timedelta(underscored(name), description, unit)

    def create_gauge(self, name: str, description: str | None = None, unit: str | None = None) -> MetricGauge:
        return self._inner.create_gauge(underscored(name), description, unit)

    def create_gauge_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricGaugeFloat:
        return self._inner.create_gauge_float(underscored(name), description, unit)

    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> MetricMeter:
        return _Meter(self._inner.with_additional_attributes(_flat(additional_attributes) or {}))


class _Common(MetricCommon, Generic[M]):
    def __init__(self, inner: M) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def description(self) -> str | None:
        return self._inner.description

    @property
    def unit(self) -> str | None:
        return self._inner.unit

    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> Self:
        return type(self)(self._inner.with_additional_attributes(_flat(additional_attributes) or {}))


class _Counter(_Common[MetricCounter], MetricCounter):
    def add(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._inner.add(value, _flat(additional_attributes))


class _Histogram(_Common[MetricHistogram], MetricHistogram):
    def record(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._inner.record(value, _flat(additional_attributes))


class _HistogramFloat(_Common[MetricHistogramFloat], MetricHistogramFloat):
    def record(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        self._inner.record(value, _flat(additional_attributes))
