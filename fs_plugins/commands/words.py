"""Words of the command line."""

from fs_plugins.errors import UserError, shown


def names_in(text: str) -> list[str]:
    """The words of a text with commas between them."""
    return [part for part in text.split(",") if part]


def numbers_in(option: str, text: str) -> list[int] | None:
    """The numbers of a text with commas between them; None without any.

    Args:
        option: the option that the text belongs to.
        text: the text.

    Raises:
        UserError: the text holds something else.

    """
    try:
        return [int(part) for part in text.split(",")] if text else None
    except ValueError:
        raise UserError(
            f"{option}: {shown(text)} is not numbers with commas between them"
        ) from None
