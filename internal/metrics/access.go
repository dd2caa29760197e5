package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
)

// ErrExposed: others could read the metrics from outside, and nothing keeps them from it.
var ErrExposed = errors.New("neither TLS nor users protect an address that is not loopback")

// OptionError says that an option cannot be used as it is: whoever set it has to mend it.
type OptionError struct {
	Option string // the name of the field in Options
	Err    error
}

func (e *OptionError) Error() string { return e.Err.Error() }

func (e *OptionError) Unwrap() error { return e.Err }

// lookupFor is how long the lookup of a host's name may take.
const lookupFor = 5 * time.Second

// admit checks who could reach the address and whether they may, and returns it without names.
func (o *Options) admit() (string, error) {
	protected, err := protects(o.WebConfig)
	if err != nil {
		return "", &OptionError{"WebConfig", fmt.Errorf("web config %s: %w", o.WebConfig, err)}
	}
	hosts, port, err := resolve(o.Address)
	if err != nil {
		return "", &OptionError{"Address", fmt.Errorf("listen on %q: %w", o.Address, err)}
	}
	if reachable(hosts) && !protected && !o.Insecure {
		return "", &OptionError{"Address", fmt.Errorf("listen on %q: %w", o.Address, ErrExposed)}
	}
	if len(hosts) == 0 {
		return ":" + port, nil
	}
	// As net.Listen does: IPv4 if there is one.
	host := hosts[max(0, slices.IndexFunc(hosts, netip.Addr.Is4))]
	return net.JoinHostPort(host.String(), port), nil
}

// reachable reports whether others than this machine could come by any of the addresses; none is all that it has.
func reachable(hosts []netip.Addr) bool {
	return len(hosts) == 0 || slices.ContainsFunc(hosts, func(a netip.Addr) bool { return !a.IsLoopback() })
}

// resolve returns all addresses that host:port stands for; none is all that the machine has.
func resolve(address string) (hosts []netip.Addr, port string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupFor)
	defer cancel()
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, "", err
	}
	port = strconv.Itoa(number)
	if host == "" {
		return nil, port, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, port, nil
	}
	if hosts, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, "", err
	}
	for i := range hosts {
		hosts[i] = hosts[i].Unmap()
	}
	return hosts, port, nil
}

// protects validates a web config, and reports whether it lets in only those who know something, or hides what they read.
func protects(file string) (bool, error) {
	if file == "" {
		return false, nil
	}
	if err := web.Validate(file); err != nil {
		return false, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	var c web.Config
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return false, err
	}
	return c.TLSConfig.IsEnabled() || len(c.Users) > 0, nil
}
