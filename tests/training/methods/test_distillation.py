import pytest
import torch

from training.methods.distillation import binary_divergence, divergence


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_equal_answers_are_no_distance_and_others_are_the_textbooks(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7, dtype=torch.double), torch.randn(5, 7, dtype=torch.double)

    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    expected = (p * (p / q).log()).sum() * temperature**2

    assert divergence(student, teacher, temperature) == pytest.approx(float(expected))
    assert float(divergence(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-9)


def test_each_label_for_itself() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3, dtype=torch.double), torch.randn(5, 3, dtype=torch.double)

    p, q = teacher.sigmoid(), student.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum()

    assert binary_divergence(student, teacher, 1.0) == pytest.approx(float(expected))
    assert float(binary_divergence(teacher, teacher, 3.0)) == pytest.approx(0, abs=1e-9)
