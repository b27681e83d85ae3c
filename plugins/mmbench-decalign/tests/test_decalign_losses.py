"""The loss components: values from the paper's equations, batches of any shape, precision, gradients."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import ot
import pytest
import torch

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, RepresentationSpec
from mmbench_decalign import config, losses
from mmbench_decalign.cosine import MaskedCosine
from mmbench_decalign.losses import prototype_distance
from mmbench_decalign.mixture import fit_mixture, initial_mixture
from mmbench_decalign.pooling import pooled

VARIANTS = {
    "decoupling": (losses.Decoupling, config.DecouplingConfig()),
    "decoupling squared": (losses.Decoupling, config.DecouplingConfig(form="squared")),
    "transport": (losses.PrototypeTransport, config.PrototypeTransportConfig()),
    "transport full": (losses.PrototypeTransport, config.PrototypeTransportConfig(covariance="full")),
    "transport last": (losses.PrototypeTransport, config.PrototypeTransportConfig(em_gradient="last", num_prototypes=3)),
    "transport ema": (losses.PrototypeTransport, config.PrototypeTransportConfig(fit="ema")),
    "transport ema full": (losses.PrototypeTransport, config.PrototypeTransportConfig(fit="ema", covariance="full")),
    "transport sum": (losses.PrototypeTransport, config.PrototypeTransportConfig(reduction="sum", gradient="unrolled", iterations=8)),
    "transport relative": (losses.PrototypeTransport, config.PrototypeTransportConfig(epsilon_relative=True, epsilon=0.05)),
    "homogeneity": (losses.Homogeneity, config.HomogeneityConfig(pde_dim=3)),
    "homogeneity plain": (losses.Homogeneity, config.HomogeneityConfig(pde=False, reduction="mean", bandwidth=1.0, estimator="unbiased")),
    "contrastive": (losses.SupervisedContrastive, config.SupervisedContrastiveConfig()),
}
ORDER_FREE = [name for name in VARIANTS if not name.startswith("transport")]  # EM starts at samples chosen by their place


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def _reordered(representation: Representation, batch: Batch, order: torch.Tensor) -> tuple[Representation, Batch]:
    def moved(field):
        return {m: Sequence(x.values[order], x.mask[order]) for m, x in field.items()}

    other = dataclasses.replace(
        representation,
        prediction=representation.prediction[order],
        fused=representation.fused[order],
        common=moved(representation.common),
        unique=moved(representation.unique),
    )
    return other, Batch(batch.index[order], {}, batch.target[order])


def _leaves(representation):
    return [representation.fused, *(x.values for field in (representation.unique, representation.common) for x in field.values())]


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize(("modalities", "task", "sequence"), [(2, "regression", True), (3, "classification", False), (4, "regression", False)])
def test_terms_are_finite_scalars_with_gradients(variant, modalities, size, task, sequence, make_spec, make_representation):
    build, options = variant
    spec = make_spec(modalities, task=task, sequence=sequence)
    loss = build(spec, options)
    for _ in range(2):  # twice, since running prototypes start with the first batch
        representation, batch = make_representation(spec, size)
        terms = loss(representation, batch)
        assert set(terms) == set(loss.terms)
        assert all(value.shape == () and value.isfinite() and value.dtype == torch.float32 for value in terms.values())
        sum(terms.values()).backward()
        gradients = [x.grad for x in _leaves(representation) if x.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert all(parameter.grad is not None for parameter in loss.parameters())


def test_gradient_is_not_zero(variant, make_spec, make_representation):
    build, options = variant
    representation, batch = make_representation(make_spec(), 16)
    loss = build(make_spec(), options)
    for term in loss.terms:
        loss.active = frozenset({term})
        value = loss(representation, batch)
        assert set(value) == {term}
        gradients = torch.autograd.grad(value[term], _leaves(representation), allow_unused=True)
        assert sum(g.abs().sum() for g in gradients if g is not None) > 1e-6, term


@pytest.mark.parametrize("name", ORDER_FREE)
def test_order_of_the_batch_does_not_matter(name, make_spec, make_representation):
    build, options = VARIANTS[name]
    representation, batch = make_representation(make_spec(), 9)
    loss = build(make_spec(), options)
    moved = loss(*_reordered(representation, batch, torch.randperm(9)))
    for term, value in loss(representation, batch).items():
        torch.testing.assert_close(moved[term], value, rtol=1e-4, atol=1e-6)


def test_order_of_samples_where_em_does_not_start_does_not_matter(make_spec, make_representation):
    spec = make_spec(prototypes=3)
    representation, batch = make_representation(spec, 9)
    loss = losses.PrototypeTransport(spec, config.PrototypeTransportConfig())
    moved = loss(*_reordered(representation, batch, torch.tensor([0, 3, 7, 1, 4, 6, 2, 5, 8])))  # 0, 4 and 8 stay
    for term, value in loss(representation, batch).items():
        torch.testing.assert_close(moved[term], value)


def test_padding_does_not_matter(variant, make_spec, make_representation):
    build, options = variant
    representation, batch = make_representation(make_spec(), 9)
    loss = build(make_spec(), options)

    def padded(field):
        return {
            m: Sequence(
                torch.cat([torch.full_like(x.values[:, :1], 7.0), x.values, torch.full_like(x.values[:, :2], -50.0)], 1),
                torch.cat([torch.zeros_like(x.mask[:, :1]), x.mask, torch.zeros(9, 2, dtype=torch.bool)], 1),
            )
            for m, x in field.items()
        }

    other = dataclasses.replace(representation, unique=padded(representation.unique), common=padded(representation.common))
    expected = build(make_spec(), options) if "ema" in str(options) else loss
    if list(loss.parameters()):
        expected.load_state_dict(loss.state_dict())
    padded_terms = expected(other, batch)
    for term, value in loss(representation, batch).items():
        torch.testing.assert_close(padded_terms[term], value, rtol=1e-4, atol=1e-6)


def test_half_precision_changes_little(variant, make_spec, make_representation):
    build, options = variant
    spec = make_spec()
    exact, batch = make_representation(spec, 12)
    loss = build(spec, options)
    rounded, _ = make_representation(spec, 12, dtype=torch.bfloat16)
    state = {key: value.clone() for key, value in loss.state_dict().items()}
    expected = loss(exact, batch)
    loss.load_state_dict(state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(rounded, batch)
    for term, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[term], rtol=0.15, atol=0.05)
    sum(terms.values()).backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in _leaves(rounded))


def test_pooled_is_the_masked_mean(make_spec, make_representation):
    representation, _ = make_representation(make_spec(), 5)
    representation.unique["audio"].mask[2] = False
    result = pooled(representation.unique, representation.unique)
    for m, x in enumerate(representation.unique.values()):
        for n in range(5):
            expected = x.values[n][x.mask[n]].mean(0) if x.mask[n].any() else torch.zeros(6)
            torch.testing.assert_close(result[m, n], expected)


@pytest.mark.parametrize("form", ["signed", "squared"])
def test_decoupling_equals_eq_1(form, make_spec, make_representation):
    representation, batch = make_representation(make_spec(), 5)
    total = 0.0
    for m in representation.unique:
        cosines = []
        for n in range(5):
            real = representation.unique[m].mask[n] & representation.common[m].mask[n]
            u, c = (field[m].values[n][real].detach().double().numpy().ravel() for field in (representation.unique, representation.common))
            cosine = u @ c / max(np.linalg.norm(u) * np.linalg.norm(c), 1e-30)
            cosines.append(cosine**2 if form == "squared" else cosine)
        total += np.mean(cosines)
    value = losses.Decoupling(make_spec(), config.DecouplingConfig(form=form))(representation, batch)["decoupling"]
    assert value.item() == pytest.approx(total, abs=1e-6)


def test_gradient_of_the_masked_cosine_equals_the_plain_forms():
    u, c = (torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.arange(5) < torch.tensor([5, 1, 3, 0])[:, None]
    direction = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    plain = torch.nn.functional.cosine_similarity((u * mask.unsqueeze(-1)).flatten(1), (c * mask.unsqueeze(-1)).flatten(1))
    found = MaskedCosine.apply(u, c, mask)
    torch.testing.assert_close(found, plain)
    wanted = torch.autograd.grad(plain[:3] @ direction[:3], (u, c))
    for one, other in zip(torch.autograd.grad(found @ direction, (u, c)), wanted, strict=True):
        torch.testing.assert_close(one, other)  # the sample without a real frame has none
    u.data[0] = 0.0
    (gradient,) = torch.autograd.grad(MaskedCosine.apply(u, c, mask).sum(), u)
    assert gradient.isfinite().all()


def test_decoupling_of_parallel_features_is_the_number_of_modalities(make_spec, make_representation):
    representation, batch = make_representation(make_spec(), 5)
    parallel = dataclasses.replace(representation, common={m: Sequence(3 * x.values, x.mask) for m, x in representation.unique.items()})
    opposite = dataclasses.replace(representation, common={m: Sequence(-x.values, x.mask) for m, x in representation.unique.items()})
    loss = losses.Decoupling(make_spec(), config.DecouplingConfig())
    assert loss(parallel, batch)["decoupling"].item() == pytest.approx(3, abs=1e-5)
    assert loss(opposite, batch)["decoupling"].item() == pytest.approx(-3, abs=1e-5)


def test_prototype_term_equals_eq_9():
    x, means = torch.randn(3, 5, 4, dtype=torch.float64) + 50, torch.randn(3, 2, 4, dtype=torch.float64) + 50
    w = torch.randn(3, 5, 2, dtype=torch.float64).softmax(-1)
    pairs = []
    for i, j in itertools.permutations(range(3), 2):
        pairs.append(np.mean([sum(w[i, n, k].item() * np.sum((x[i, n] - means[j, k]).numpy() ** 2) for k in range(2)) for n in range(5)]))
    assert prototype_distance(x, w, means).item() == pytest.approx(np.mean(pairs), rel=1e-9)


def test_transport_of_two_modalities_equals_pot(make_spec, make_representation):
    """Own EM (which equals scikit-learn's, see the mixture's tests), then cost and plan from POT."""
    spec = make_spec(2, prototypes=3)
    representation, batch = make_representation(spec, 12)
    options = config.PrototypeTransportConfig(reduction="sum", epsilon=2.0, iterations=2000, tolerance=1e-10)
    loss = losses.PrototypeTransport(spec, options)
    value = loss(representation, batch)["transport"]

    x = torch.stack([s.mean() for s in representation.unique.values()]).double().detach()
    mixture = fit_mixture(x, initial_mixture(x, 3, "diagonal", 1e-4), 5, 1e-4)
    nu = mixture.posterior(x).mean(1).numpy()
    cost = np.zeros((3, 3))
    for k, j in itertools.product(range(3), repeat=2):
        covariances = [np.diag(mixture.covariances[m, c].numpy()) for m, c in ((0, k), (1, j))]
        cost[k, j] = ot.gaussian.bures_wasserstein_distance(mixture.means[0, k].numpy(), mixture.means[1, j].numpy(), *covariances) ** 2
    plan = ot.sinkhorn(nu[0], nu[1], cost, 2.0, method="sinkhorn_log", numItermax=10000, stopThr=1e-12)
    assert value.item() == pytest.approx(np.sum(plan * cost), rel=1e-4)
    information = np.sum(plan * np.log(plan / np.outer(nu[0], nu[1])))
    assert loss.diagnostics["plan_mutual_information"].item() == pytest.approx(information, rel=1e-3, abs=1e-7)
    assert loss.diagnostics["cost_over_epsilon"].item() == pytest.approx(cost.mean() / 2.0, rel=1e-4)
    assert not any(value.requires_grad for value in loss.diagnostics.values())


def test_relative_epsilon_scales_with_the_cost(make_spec, make_representation):
    representation, batch = make_representation(make_spec(), 16)
    loss = losses.PrototypeTransport(make_spec(), config.PrototypeTransportConfig(epsilon_relative=True, epsilon=0.25))
    loss(representation, batch)
    assert loss.diagnostics["cost_over_epsilon"].item() == pytest.approx(4.0, rel=1e-5)


def test_sinkhorn_is_skipped_when_only_the_prototype_term_is_active(make_spec, make_representation, monkeypatch):
    representation, batch = make_representation(make_spec(), 8)
    loss = losses.PrototypeTransport(make_spec(), config.PrototypeTransportConfig())
    both = loss(representation, batch)
    loss.active = frozenset({"prototype"})
    monkeypatch.setattr(losses, "multi_marginal_plan", None)
    alone = loss(representation, batch)
    torch.testing.assert_close(alone["prototype"], both["prototype"])
    assert loss.diagnostics == {}


def test_descending_the_transport_brings_the_modalities_together(make_spec, make_representation):
    spec = make_spec(3, sequence=False)
    representation, batch = make_representation(spec, 24)
    for shift, sequence in enumerate(representation.unique.values()):
        sequence.values.data += 2.0 * shift
    leaves = [x.values for x in representation.unique.values()]
    loss = losses.PrototypeTransport(spec, config.PrototypeTransportConfig())
    optimizer = torch.optim.Adam(leaves, lr=0.2)
    history = []
    for _ in range(30):
        terms = loss(representation, batch)
        history.append(sum(terms.values()).item())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    assert history[-1] < 0.5 * history[0]


@pytest.mark.parametrize("gradient", ["envelope", "unrolled"])
def test_gradient_of_the_transport_in_the_features(gradient, make_spec, make_representation):
    """With ε large against the cost the plan is nearly fixed, so that both gradients are close to finite differences of the value at fixed ν."""
    spec = make_spec(2, width=2, sequence=False, prototypes=1)
    representation, batch = make_representation(spec, 5, dtype=torch.float64)
    loss = losses.PrototypeTransport(spec, config.PrototypeTransportConfig(gradient=gradient))
    leaf = representation.unique["text"].values

    def value(x):
        other = {**representation.unique, "text": Sequence(x, representation.unique["text"].mask)}
        return tuple(loss(dataclasses.replace(representation, unique=other), batch).values())

    assert torch.autograd.gradcheck(value, leaf)


def test_running_prototypes_move_in_training_alone(make_spec, make_representation):
    spec = make_spec(prototypes=3)
    loss = losses.PrototypeTransport(spec, config.PrototypeTransportConfig(fit="ema"))
    first, batch = make_representation(spec, 12, seed=1)
    second, _ = make_representation(spec, 12, seed=2)
    batch_fit = losses.PrototypeTransport(spec, config.PrototypeTransportConfig())(first, batch)
    terms = loss(first, batch)
    for term, value in terms.items():  # the first batch has nothing to run on
        torch.testing.assert_close(value, batch_fit[term])
    kept = {key: value.clone() for key, value in loss.state_dict().items()}
    assert set(kept) == {"weights", "means", "covariances", "started"}
    loss.eval()
    loss(second, batch)
    assert all(torch.equal(value, kept[key]) for key, value in loss.state_dict().items())
    loss.train()
    loss(second, batch)
    assert not torch.equal(loss.means, kept["means"])
    torch.testing.assert_close(loss.weights.sum(-1), torch.ones(3))
    assert (loss.means - kept["means"]).norm() < (kept["means"]).norm()


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_collapsed_unique_features_are_survived(covariance, make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 10)
    for x in representation.unique.values():
        x.values.data.fill_(1.0)
    terms = losses.PrototypeTransport(spec, config.PrototypeTransportConfig(covariance=covariance))(representation, batch)
    sum(terms.values()).backward()
    assert all(value.isfinite() for value in terms.values())
    assert all(x.values.grad.isfinite().all() for x in representation.unique.values())


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_contrastive_equals_a_plain_loop(task, make_spec, make_representation):
    spec = make_spec(task=task)
    representation, batch = make_representation(spec, 10)
    if task == "regression":
        batch = Batch(batch.index, {}, torch.tensor([-9.0, -3.2, -2.6, 0.5, 0.4, -0.5, 1.5, 2.4, 2.6, 1.0]))
        classes = [-3, -3, -3, 0, 0, 0, 2, 2, 3, 1]  # clipped, then rounded half to even
    else:
        classes = batch.target.tolist()
    z = representation.fused.detach().double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    anchors = []
    for i in range(10):
        positives = [p for p in range(10) if p != i and classes[p] == classes[i]]
        if positives:
            denominator = sum(math.exp(z[i] @ z[a] / 0.2) for a in range(10) if a != i)
            anchors.append(-np.mean([math.log(math.exp(z[i] @ z[p] / 0.2) / denominator) for p in positives]))
    loss = losses.SupervisedContrastive(spec, config.SupervisedContrastiveConfig(temperature=0.2))
    assert loss(representation, batch)["contrastive"].item() == pytest.approx(np.mean(anchors), rel=1e-5)


def test_contrastive_without_positives_is_zero(make_spec, make_representation):
    representation, batch = make_representation(make_spec(), 3)
    batch = Batch(batch.index, {}, torch.tensor([-3.0, 0.0, 3.0]))
    value = losses.SupervisedContrastive(make_spec(), config.SupervisedContrastiveConfig())(representation, batch)["contrastive"]
    value.backward()
    assert value.item() == 0.0
    assert representation.fused.grad.abs().sum() == 0.0


def test_decoupling_pools_where_only_one_of_the_two_is_a_sequence(make_spec, make_representation):
    spec = make_spec(2)
    vectors = {m: FieldSpec(6, False) for m in spec.modalities}
    mixed = RepresentationSpec(spec.inputs, spec.fused, spec.encoded, common=vectors, unique=spec.unique)
    representation, batch = make_representation(mixed, 6)
    value = losses.Decoupling(mixed, config.DecouplingConfig())(representation, batch)["decoupling"]
    expected = sum(
        torch.nn.functional.cosine_similarity(representation.unique[m].mean(), representation.common[m].mean()).mean() for m in spec.modalities
    )
    torch.testing.assert_close(value, expected)


def test_refusals_name_the_reason(make_spec):
    alone = make_spec(1)
    with pytest.raises(ValueError, match="two or more"):
        losses.PrototypeTransport(alone, config.PrototypeTransportConfig())
    with pytest.raises(ValueError, match="K = 300 prototypes"):
        losses.PrototypeTransport(make_spec(3), config.PrototypeTransportConfig(num_prototypes=300))
    with pytest.raises(ValueError, match="two or more"):
        losses.Homogeneity(alone, config.HomogeneityConfig())
    bare = RepresentationSpec(alone.inputs, 4, {})
    with pytest.raises(ValueError, match="'unique'"):
        losses.Decoupling(bare, config.DecouplingConfig())
    uneven = make_spec(2)
    common = {m: FieldSpec(6 + i, False) for i, m in enumerate(uneven.modalities)}
    with pytest.raises(ValueError, match="one width"):
        losses.Homogeneity(RepresentationSpec(uneven.inputs, 4, {}, common=common), config.HomogeneityConfig())
    with pytest.raises(ValueError, match="one width"):
        losses.Decoupling(RepresentationSpec(uneven.inputs, 4, {}, common=common, unique=uneven.unique), config.DecouplingConfig())
