"""How numbers are written, the same in every view. Units stand in the headers."""

import math


def digits(value: float, significant: int = 3) -> str:
    """Write a number with so many significant digits, never as an exponent, thousands apart."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    magnitude = math.floor(math.log10(abs(float(f"{value:.{significant - 1}e}"))))
    return f"{round(value, significant - 1 - magnitude):,.{max(0, significant - 1 - magnitude)}f}"


def milliseconds(seconds: float) -> str:
    """Write seconds as milliseconds, three significant digits."""
    return digits(seconds * 1e3)


def counted(count: int, noun: str) -> str:
    """Write how many there are, in the plural where it is not one."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def megabytes(count: float) -> str:
    """Write bytes as megabytes of 10^6 bytes, three significant digits."""
    return digits(count / 1e6)


def times(ratio: float) -> str:
    """Write a ratio: two decimals, more where it is small."""
    return f"{ratio:.2f}" if ratio >= 0.1 else digits(ratio, 2)


def interval(bounds: tuple[float, float]) -> str:
    """Write an interval of ratios."""
    return f"[{times(bounds[0])}, {times(bounds[1])}]"


def aligned(values: list[str], space: str = " ") -> list[str]:
    """Pad numbers on the right so that their decimal points stand in one column when they are right-aligned."""
    tails = [len(value) - value.index(".") if "." in value else 0 for value in values]
    widest = max(tails, default=0)
    return [
        value + space * (widest - tail) if value[:1].isdigit() else value
        for value, tail in zip(values, tails, strict=True)
    ]
