package loader

import (
	"testing"

	"github.com/cilium/ebpf/asm"
)

// TestNoFunctionCalls: until 6.5 a load that faults in a program that calls functions of ours kills the kernel: the table that
// says where to go on is that of a function, and not found (0108a4e9f358, "bpf: ensure main program has an extable").
func TestNoFunctionCalls(t *testing.T) {
	spec, err := loadProgram()
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range spec.Programs {
		for i, ins := range program.Instructions {
			if ins.IsFunctionCall() && ins.Src == asm.PseudoCall {
				t.Errorf("%s calls %q at instruction %d", name, ins.Reference(), i)
			}
		}
	}
}
