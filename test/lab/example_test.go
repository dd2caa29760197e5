package lab_test

import (
	"context"
	"fmt"
	"log"

	"github.com/ctwatch/ctwatch/test/lab"
)

// A server's table is full, and refuses what arrives from its client.
func Example() {
	ctx := context.Background()
	if err := refuse(ctx); err != nil {
		log.Fatal(err)
	}
}

func refuse(ctx context.Context) error {
	l, err := lab.Open(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	client, err := l.Namespace("client")
	if err != nil {
		return err
	}
	server, err := l.Namespace("server")
	if err != nil {
		return err
	}
	link, err := l.Link(client, server)
	if err != nil {
		return err
	}
	if err := l.SetLimit(lab.Max, 1000); err != nil {
		return err
	}
	if err := server.Track(); err != nil {
		return err
	}
	if err := server.FillUp(ctx); err != nil {
		return err
	}
	sent, err := link.A.Inject(ctx, lab.Traffic{Packets: 100_000, Kinds: lab.Kinds()})
	if err != nil {
		return err
	}
	kernel, err := server.Kernel()
	if err != nil {
		return err
	}
	fmt.Printf("%d sent, %d refused, %d in the kernel's drop counter\n", sent.Packets, sent.Refused, kernel.Total.Drop)
	return l.Close()
}
