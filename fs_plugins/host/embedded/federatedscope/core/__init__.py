"""What every federation needs."""
