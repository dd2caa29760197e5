package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

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
func (c *cache) newest(ctx context.Context) (kernel, error) {
	best := kernel{name: newest}
	for _, name := range newestSuites {
		s, err := c.openSuite(ctx, name)
		if err != nil {
			return best, err
		}
		out, err := output(s.apt(ctx, "apt-cache", "pkgnames", "linux-"))
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
				if best.packages != nil && !newer(ctx, v, best.packages[0].version) {
					continue
				}
				best.suite, best.packages = name, nil
				for _, n := range groups[image] {
					best.packages = append(best.packages, pkg{n, v})
				}
			}
		}
	}
	if best.packages == nil {
		return best, errors.New("no kernel in " + strings.Join(newestSuites, ", "))
	}
	fmt.Printf("vm: %s: %s of %s\n", newest, best.packages[0], best.suite)
	return best, nil
}

func newer(ctx context.Context, a, b string) bool {
	return exec.CommandContext(ctx, "dpkg", "--compare-versions", a, "gt", b).Run() == nil
}

// choiceSum tells choices of modules apart.
func choiceSum() uint32 {
	return crc32.ChecksumIEEE([]byte(strings.Join(append(wantedDirs, wantedNames...), " ")))
}
