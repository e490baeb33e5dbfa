"""What a kernel of layers is and how it is evaluated; knows no group."""
