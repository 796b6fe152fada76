"""Where workers compute."""


class GPUManager:
    """Chooses the device of a worker."""

    def __init__(
        self, gpu_available: bool = False, specified_device: int = -1
    ) -> None:
        self.gpu_available = gpu_available
        self.specified_device = specified_device

    def auto_choice(self) -> str:
        """'cpu', or 'cuda:N': the given N, or else the first GPU."""
        if not self.gpu_available:
            return "cpu"
        return f"cuda:{max(self.specified_device, 0)}"
