"""Say how many there are of something, as people do."""


def counted(count: int, one: str, many: str = "") -> str:
    """Such as "1 key" and "2 keys"; `many` is for what is more than an s longer."""
    return f"{count} {one if count == 1 else many or one + 's'}"
