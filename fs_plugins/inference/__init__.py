"""What becomes of a trained model: predictions for new texts."""
