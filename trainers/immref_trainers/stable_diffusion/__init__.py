"""Stable Diffusion: training in the latents of a frozen VAE, asked for in words."""
