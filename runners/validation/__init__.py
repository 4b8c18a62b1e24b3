"""What `chipassay validate` shows of the scaling model's errors: tables for people, records for programs."""
