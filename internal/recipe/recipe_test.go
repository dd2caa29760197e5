package recipe

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v2"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestFor(t *testing.T) {
	for _, tt := range []struct {
		name, osRelease, want string
		known                 bool
	}{
		{"NixOS", "ID=nixos\nVERSION_ID=\"26.05\"\n", "NixOS", true},
		{"like NixOS", "ID=mine\nID_LIKE=\"nixos\"\n", "NixOS", true},
		{"Talos", "NAME=\"Talos\"\nID=talos\nVERSION_ID=v1.10.1\n", "Talos Linux", true},
		{"Bottlerocket", "NAME=Bottlerocket\nID=bottlerocket\nVARIANT_ID=aws-k8s-1.33\n", "Bottlerocket", true},
		{"Flatcar", "ID=flatcar\nID_LIKE=coreos\n", "Flatcar Container Linux", true},
		{"Fedora CoreOS", "ID=fedora\nVARIANT=\"CoreOS\"\nVARIANT_ID=coreos\nOSTREE_VERSION='44.20260622.3.0'\n", "Fedora CoreOS", true},
		{"Silverblue", "ID=fedora\nVARIANT_ID=silverblue\nOSTREE_VERSION='34.20210721.0'\n", "an OSTree system", true},
		{"another by rpm-ostree", "ID=bazzite\nID_LIKE=\"fedora\"\nVARIANT_ID=bazzite\nOSTREE_VERSION='42'\n", "an OSTree system", true},
		{"OpenShift", "NAME=\"Red Hat Enterprise Linux CoreOS\"\nID=\"rhcos\"\nID_LIKE=\"rhel fedora\"\nVARIANT_ID=coreos\n", "OpenShift", true},
		{"OpenShift's RHEL", "ID=\"rhel\"\nID_LIKE=\"fedora\"\nVARIANT_ID=coreos\n", "OpenShift", true},
		{"MicroOS", "ID=\"opensuse-microos\"\nID_LIKE=\"suse opensuse opensuse-tumbleweed microos sl-micro\"\n", "MicroOS and SUSE Linux Micro", true},
		{"SLE Micro", "NAME=\"SLE Micro\"\nID=\"sle-micro\"\nID_LIKE=\"suse\"\n", "MicroOS and SUSE Linux Micro", true},
		{"Google's", "NAME=\"Container-Optimized OS\"\nID=cos\nID_LIKE=\r\n", "Container-Optimized OS", true},
		{"Fedora", "ID=fedora\nVARIANT_ID=server\n", "a system whose /etc cannot be written", false},
		{"RHEL", "ID=\"rhel\"\n", "a system whose /etc cannot be written", false},
		{"Debian", "ID=debian\n", "a system whose /etc cannot be written", false},
		{"a comment", "#ID=nixos\nID=debian\n", "a system whose /etc cannot be written", false},
		{"nothing", "", "a system whose /etc cannot be written", false},
		{"garbage", "=\n==\nID\n\x00\xff=\nID=\"\n", "a system whose /etc cannot be written", false},
	} {
		got, known := For(tt.osRelease)
		if got.System != tt.want || known != tt.known {
			t.Errorf("%s: it is for %q, %t", tt.name, got.System, known)
		}
	}
}

// recipes are all that there are.
func recipes() map[string]Recipe {
	all := map[string]Recipe{"container": Container(), "generic": Generic()}
	for _, s := range systems() {
		all[strings.Join(append(s.ids[:1:1], s.variants...), "-")] = s.Recipe
	}
	return all
}

func TestText(t *testing.T) {
	for name, r := range recipes() {
		got := "# " + r.System + ": " + r.Why + "\n# " + r.Source + "\n" + r.Text(524288, 131072)
		golden := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}

		alone := r.Text(524288, 0)
		switch {
		case !strings.HasPrefix(r.Source, "https://") || r.System == "" || r.Why == "":
			t.Errorf("%s does not say what it is, why, and where that is written", name)
		case strings.Contains(got, "@MAX") || strings.Contains(got, "@BUCKETS"):
			t.Errorf("%s has a placeholder left", name)
		case !strings.Contains(alone, "524288"):
			t.Errorf("%s has no limit where the buckets are left alone:\n%s", name, alone)
		case strings.Contains(alone, "131072") || strings.Contains(alone, "buckets") || strings.Contains(alone, "hashsize"):
			t.Errorf("%s has buckets although they are left alone:\n%s", name, alone)
		}
	}
}

// What is YAML can be read as such, and has the limits where they belong, with buckets and without.
func TestTextIsYAML(t *testing.T) {
	for name, at := range map[string][]string{
		"talos":         {"machine", "sysctls"},
		"flatcar":       {"storage", "files"},
		"fedora-coreos": {"storage", "files"},
		"rhcos":         {"spec", "profile"},
		"cos":           {"bootcmd"},
	} {
		for _, buckets := range []uint64{0, 131072} {
			var value any
			if err := yaml.Unmarshal([]byte(recipes()[name].Text(524288, buckets)), &value); err != nil {
				t.Errorf("%s, %d buckets: %v", name, buckets, err)
				continue
			}
			for _, key := range at {
				fields, _ := value.(map[any]any)
				value = fields[key]
			}
			text, err := yaml.Marshal(value)
			if err != nil || !strings.Contains(string(text), "524288") || strings.Contains(string(text), "131072") != (buckets != 0) {
				t.Errorf("%s, %d buckets: at %v there is %s", name, buckets, at, text)
			}
		}
	}
	_, daemonSet, _ := strings.Cut(recipes()["container"].Text(524288, 131072), "\napiVersion")
	var set struct {
		Kind string
		Spec struct{ Template struct{ Spec map[string]any } }
	}
	if err := yaml.Unmarshal([]byte("apiVersion"+daemonSet), &set); err != nil || set.Kind != "DaemonSet" || set.Spec.Template.Spec["hostNetwork"] != true {
		t.Errorf("the DaemonSet is %+v, %v", set, err)
	}
}

func FuzzFor(f *testing.F) {
	f.Add("ID=nixos\n")
	f.Add("ID='rhel'\nID_LIKE=\"a b\"\nVARIANT_ID=coreos")
	f.Fuzz(func(t *testing.T, osRelease string) {
		r, known := For(osRelease)
		if r.System == "" || !strings.Contains(r.Text(1, 0), "1") {
			t.Errorf("there is no recipe: %+v", r)
		}
		if known && !strings.Contains(osRelease, "ID") && !strings.Contains(osRelease, "OSTREE_VERSION") {
			t.Errorf("it is known as %s by nothing", r.System)
		}
	})
}
