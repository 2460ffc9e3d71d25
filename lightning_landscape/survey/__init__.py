"""One landscape in the making: the order of points, the values that fill it, the time that it may take."""
