package qemu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// Newest is the name of the newest kernel that the distribution offers for trial, whichever it is today.
const Newest = "newest"

// newestSuites are where it is looked for.
var newestSuites = []string{"trixie-backports", "sid"}

var imageName = regexp.MustCompile(`^linux-(image|binary)-([0-9].*-cloud-amd64)$`)

// newestPackages groups the packages that make a kernel, by the one with the image: the modules are in the same one, or
// in one of their own, and then linux-image has nothing in it.
func newestPackages(names []string) map[string][]string {
	groups := map[string][]string{}
	for _, n := range names {
		m := imageName.FindStringSubmatch(n)
		if m == nil || m[1] == "image" && slices.Contains(names, "linux-binary-"+m[2]) {
			continue
		}
		groups[n] = []string{n}
		if modules := "linux-modules-" + m[2]; slices.Contains(names, modules) {
			groups[n] = append(groups[n], modules)
		}
	}
	return groups
}

// newest finds the newest kernel of the suites that have new ones.
func (c *Cache) newest(ctx context.Context) (Kernel, error) {
	best := Kernel{Name: Newest}
	for _, name := range newestSuites {
		s, err := c.openSuite(ctx, name)
		if err != nil {
			return best, err
		}
		out, err := Output(s.apt(ctx, "apt-cache", "pkgnames", "linux-"))
		if err != nil {
			return best, err
		}
		groups := newestPackages(strings.Fields(out))
		var images []string
		for image := range groups {
			images = append(images, image)
		}
		if len(images) == 0 {
			continue
		}
		versions, err := s.versions(ctx, images...)
		if err != nil {
			return best, err
		}
		for image, list := range versions {
			for _, v := range list {
				if best.Packages != nil && !newer(ctx, v, best.Packages[0].Version) {
					continue
				}
				best.Suite, best.Packages = name, nil
				for _, n := range groups[image] {
					best.Packages = append(best.Packages, Package{n, v})
				}
			}
		}
	}
	if best.Packages == nil {
		return best, errors.New("no kernel in " + strings.Join(newestSuites, ", "))
	}
	fmt.Printf("vm: %s: %s of %s\n", Newest, best.Packages[0], best.Suite)
	return best, nil
}

func newer(ctx context.Context, a, b string) bool {
	return exec.CommandContext(ctx, "dpkg", "--compare-versions", a, "gt", b).Run() == nil
}
