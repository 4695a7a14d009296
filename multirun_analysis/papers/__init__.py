"""The papers' tables and statements."""
