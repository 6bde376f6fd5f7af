# The package is imported inside fixtures: the plugin of jaxtyping has to come before it.
import pytest


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many FLOP/s, with 20 ms lost in every step."""
    from groundup.model.count import flops_per_token
    from groundup.planning import budget
    from groundup.planning.throughput import Speed

    def of(flops_per_s: float) -> None:
        def probe(config, text, seconds, *, validates=True):
            model = config.model
            flops = flops_per_token(model) * config.batch_size * model.context_length
            window_s = flops_per_token(model) * model.context_length / 3 / flops_per_s
            return Speed(step_s=0.02 + flops / flops_per_s, window_s=window_s)

        monkeypatch.setattr(budget, "probe", probe)

    return of


@pytest.fixture
def wishes(data):
    from groundup.train.config import PretrainConfig

    return PretrainConfig(data=data, out=data.parent / "run", budget="10m")
