"""What is distilled: the teacher's answers at a temperature, by the kind of task."""

import torch

from theseus_deploy.compress.distillation import MATCH


def test_distillation_matches_the_teacher_at_a_temperature_for_every_kind_of_task() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.5, 0.0], [3.0, 1.0]])
    classes = sum(
        (p * (p.log() - q.log())).sum()
        for p, q in zip((teacher / 2).softmax(-1), (student / 2).softmax(-1), strict=True)
    ) / 2  # fmt: skip
    p, q = (teacher / 2).sigmoid(), (student / 2).sigmoid()
    labels = -(p * q.log() + (1 - p) * (1 - q).log()).mean()
    for kind, expected in [("single-label", classes), ("tokens", classes), ("multi-label", labels)]:
        torch.testing.assert_close(MATCH[kind](student, teacher, 2.0), expected)
    torch.testing.assert_close(
        4 * MATCH["regression"](student[:, :1], teacher[:, :1], 2.0), torch.tensor((0.25 + 9) / 2)
    )
