"""What `chipassay predict` answers: everything that was asked for, worked out once, then told as text, JSON, pictures or a page."""
