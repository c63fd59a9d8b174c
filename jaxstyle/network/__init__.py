"""Networks: the protocol, VGG, and the convolution that they run."""
