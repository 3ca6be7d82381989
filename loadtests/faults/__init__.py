"""Faults: each module kills, stops or starves something under load; `campaigns` runs them all."""
