"""Figures of an analysis: readable in grey and by the colour-blind, as PDF, SVG and PNG."""
