"""Sub-commands of the console command `i0t`: each module has a `main(argv) -> int`; `i0t.__main__` lists them."""
