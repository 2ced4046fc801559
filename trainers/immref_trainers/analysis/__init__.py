"""The paper's analyses of the noise, one file each."""
