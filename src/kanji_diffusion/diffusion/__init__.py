"""Latent diffusion out of diffusers' parts: autoencoder, UNet, text states, noise schedule, losses and sampler."""
