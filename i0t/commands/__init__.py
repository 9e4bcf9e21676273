"""Sub-commands of the console command `i0t`, each with `main(argv) -> int`; `i0t.__main__` lists them."""
