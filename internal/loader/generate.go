package loader

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -go-package loader -target amd64,arm64 -type table -type cpu -type sample -type kind -type beginning -type limit -type limit_write program ../../bpf/ctwatch.bpf.c -- -I../../bpf -mcpu=v3 -Wall -Werror
