package recipe

// systems are those that have a recipe of their own, by what their os-release calls them. The comments say where it is
// written that things are so.
func systems() []system {
	return []system{
		{ids: []string{"nixos"}, Recipe: nixOS()},
		{ids: []string{"talos"}, Recipe: talos()},
		{ids: []string{"bottlerocket"}, Recipe: bottlerocket()},
		{ids: []string{"flatcar"}, Recipe: flatcar()},
		{ids: []string{"rhcos"}, Recipe: openShift()},
		{ids: []string{"rhel"}, variants: []string{"coreos"}, Recipe: openShift()},
		{ids: []string{"fedora"}, variants: []string{"coreos"}, Recipe: coreOS()},
		{ids: []string{"fedora"}, variants: []string{"iot", "silverblue", "kinoite"}, Recipe: ostree()},
		{ids: []string{"opensuse-microos", "microos", "sle-micro", "sl-micro"}, Recipe: microOS()},
		{ids: []string{"cos"}, Recipe: containerOptimizedOS()},
	}
}

// https://github.com/NixOS/nixpkgs/blob/master/nixos/modules/config/sysctl.nix makes /etc/sysctl.d/60-nixos.conf, and
// .../nixos/modules/system/boot/kernel.nix makes /etc/modules-load.d/nixos.conf, both links into the read-only store.
func nixOS() Recipe {
	return Recipe{
		System: "NixOS",
		Why:    "the files in /etc are made from the configuration, and are made again with each nixos-rebuild",
		Source: "https://github.com/NixOS/nixpkgs/blob/master/nixos/modules/config/sysctl.nix",
		text: `# In /etc/nixos/configuration.nix, or a module of your flake; then: nixos-rebuild switch
boot.kernelModules = [ "nf_conntrack" ];
boot.kernel.sysctl = {
  "net.netfilter.nf_conntrack_max" = @MAX@;
  "net.netfilter.nf_conntrack_buckets" = @BUCKETS@;
};
`,
	}
}

// From 1.14 on there is a document SysctlConfig, and machine.sysctls is deprecated:
// https://docs.siderolabs.com/talos/v1.14/reference/configuration/runtime/sysctlconfig.md. Talos has kube-proxy leave the
// limit alone, by conntrack-max-per-core 0: https://github.com/siderolabs/talos/issues/5505 shows its command.
func talos() Recipe {
	return Recipe{
		System: "Talos Linux",
		Why:    "it has no writable /etc and no shell: the machine configuration sets everything",
		Source: "https://docs.siderolabs.com/talos/v1.13/reference/configuration/v1alpha1/config",
		text: `# As a patch: talosctl patch machineconfig --patch @conntrack.yaml --nodes ADDRESS
machine:
  kernel:
    modules:
      - name: nf_conntrack
  sysctls:
    net.netfilter.nf_conntrack_max: "@MAX@"
    net.netfilter.nf_conntrack_buckets: "@BUCKETS@"
# From Talos 1.14 on, the sysctls stand in a document of their own:
#   apiVersion: v1alpha1
#   kind: SysctlConfig
#   params:
#     net.netfilter.nf_conntrack_max: "@MAX@"
#     net.netfilter.nf_conntrack_buckets: "@BUCKETS@"
`,
	}
}

// Keys and values in quotes, module.allowed and .autoload: the page of settings.kernel. That kube-proxy has to be told, too,
// is in https://github.com/bottlerocket-os/bottlerocket/blob/develop/QUICKSTART-EKS.md#conntrack-configuration.
func bottlerocket() Recipe {
	return Recipe{
		System: "Bottlerocket",
		Why:    "its files are made from its settings at each boot",
		Source: "https://bottlerocket.dev/en/os/1.66.x/api/settings/kernel/",
		text: `# Now and for good, from the control or admin container: apiclient apply <<END, these lines, END. For new nodes: user data.
[settings.kernel.modules.nf_conntrack]
allowed = true
autoload = true
[settings.kernel.sysctl]
"net.netfilter.nf_conntrack_max" = "@MAX@"
"net.netfilter.nf_conntrack_buckets" = "@BUCKETS@"
# On Kubernetes, kube-proxy sets the limit again when it starts: ctwatch limit script --for kube-proxy tells how to stop it.
`,
	}
}

// The page has a Butane configuration for each of both, and nf_conntrack_max as its example.
func flatcar() Recipe {
	return Recipe{
		System: "Flatcar Container Linux",
		Why:    "/etc can be written and is kept, so limit persist works; but a machine that is provisioned anew has only what its configuration says",
		Source: "https://www.flatcar.org/docs/latest/setup/customization/other-settings/",
		text:   butane("flatcar", "1.0.0"),
	}
}

// /etc is kept and merged on upgrades: https://ostreedev.github.io/ostree/deployment/.
func coreOS() Recipe {
	return Recipe{
		System: "Fedora CoreOS",
		Why:    "/etc can be written and is kept, so limit persist works; but a machine that is provisioned anew has only what its configuration says",
		Source: "https://docs.fedoraproject.org/en-US/fedora-coreos/sysctl/",
		text:   butane("fcos", "1.5.0"),
	}
}

// butane is the same for all that are provisioned by Ignition.
func butane(variant, version string) string {
	return `# For new machines, as Butane: butane --strict conntrack.bu > conntrack.ign
variant: ` + variant + `
version: ` + version + `
storage:
  files:
    - path: /etc/modules-load.d/ctwatch.conf
      mode: 0644
      contents:
        inline: |
          nf_conntrack
    - path: /etc/sysctl.d/99-zz-ctwatch.conf
      mode: 0644
      contents:
        inline: |
          net.netfilter.nf_conntrack_max = @MAX@
          net.netfilter.nf_conntrack_buckets = @BUCKETS@
`
}

// A three-way merge on upgrades: https://ostreedev.github.io/ostree/deployment/. What an image has is in /usr/lib:
// https://docs.fedoraproject.org/en-US/bootc/sysctl/.
func ostree() Recipe {
	return Recipe{
		System: "an OSTree system",
		Why:    "/etc can be written and is kept and merged on upgrades, so limit persist works; only an image that is built anew has to bring the files itself",
		Source: "https://docs.fedoraproject.org/en-US/bootc/sysctl/",
		text: `# In the Containerfile of the image:
RUN echo nf_conntrack >/usr/lib/modules-load.d/ctwatch.conf
RUN echo net.netfilter.nf_conntrack_max = @MAX@ >/usr/lib/sysctl.d/99-zz-ctwatch.conf
RUN echo net.netfilter.nf_conntrack_buckets = @BUCKETS@ >>/usr/lib/sysctl.d/99-zz-ctwatch.conf
`,
	}
}

// The operator's profile for all nodes sets nf_conntrack_max=1048576, and by TuneD's plug-in net nf_conntrack_hashsize=131072. For sysctls that are
// not namespaced it is the documented way: https://docs.redhat.com/en/documentation/openshift_container_platform/4.20/html/nodes/nodes-containers-sysctls.
func openShift() Recipe {
	return Recipe{
		System: "OpenShift",
		Why:    "the nodes are managed: the Node Tuning Operator sets their sysctls, these among them, and would set them back",
		Source: "https://docs.redhat.com/en/documentation/openshift_container_platform/4.7/html/scalability_and_performance/custom-tuning-default-profiles-set_node-tuning-operator",
		text: `# oc apply -f conntrack.yaml
apiVersion: tuned.openshift.io/v1
kind: Tuned
metadata:
  name: conntrack
  namespace: openshift-cluster-node-tuning-operator
spec:
  profile:
    - name: conntrack
      data: |
        [main]
        summary=Limits of connection tracking
        include=openshift-node
        [sysctl]
        net.netfilter.nf_conntrack_max=@MAX@
        [net]
        nf_conntrack_hashsize=@BUCKETS@
  recommend:
    - profile: conntrack
      priority: 15
      match:
        - label: node-role.kubernetes.io/worker
`,
	}
}

// /etc was an overlay before transactional-update 5.0, and is a subvolume since. Of both kinds it is true that a file that
// is written between an update and the reboot may be lost: https://documentation.suse.com/sle-micro/5.5/html/SLE-Micro-all/cha-read-only-filesystem.html.
func microOS() Recipe {
	return Recipe{
		System: "MicroOS and SUSE Linux Micro",
		Why:    "the root file system is read-only, but /etc can be written and is kept, so limit persist works; while an update waits for its reboot, what is written to /etc may be lost",
		Source: "https://kubic.opensuse.org/documentation/transactional-update-guide/tu-setup.html",
		text: `# If an update waits for a reboot, reboot first. Then:
ctwatch limit persist @MAX@
# Or in the next snapshot, which the next boot takes:
transactional-update --continue run sh -c 'echo nf_conntrack >/etc/modules-load.d/ctwatch.conf
  echo net.netfilter.nf_conntrack_max = @MAX@ >/etc/sysctl.d/99-zz-ctwatch.conf
  echo net.netfilter.nf_conntrack_buckets = @BUCKETS@ >>/etc/sysctl.d/99-zz-ctwatch.conf
'
`,
	}
}

// /etc is a tmpfs, and cloud-init is applied when an instance is made and at each boot; bootcmd is run every time
// (https://cloudinit.readthedocs.io/en/latest/reference/modules.html#bootcmd).
func containerOptimizedOS() Recipe {
	return Recipe{
		System: "Container-Optimized OS",
		Why:    "/etc can be written, but is empty of that again after a reboot",
		Source: "https://cloud.google.com/container-optimized-os/docs/concepts/disks-and-filesystem",
		text: `# In the instance's metadata, as user-data:
#cloud-config
bootcmd:
  - modprobe nf_conntrack
  - sysctl -w net.netfilter.nf_conntrack_max=@MAX@
  - sysctl -w net.netfilter.nf_conntrack_buckets=@BUCKETS@
`,
	}
}

// Container is for a container, and for every network namespace that is not the host's: there the limits are read-only
// from Linux 5.12 on (and 5.10.y), and before that they were the host's all the same. "Sysctls with no namespace are called
// node-level sysctls. If you need to set them, you must manually configure them on each node's operating system, or by
// using a DaemonSet with privileged containers."
func Container() Recipe {
	return Recipe{
		System: "a container",
		Why:    "the limits belong to the whole kernel, and only the host's own network namespace can set them; docker --sysctl, a pod's securityContext and kubelet --allowed-unsafe-sysctls are for what each namespace has of its own",
		Source: "https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/",
		text: `# On the host:
ctwatch limit set @MAX@ --persist
# With docker, for now (not after the next boot of the host):
docker run --rm --privileged --network host alpine sysctl -w net.netfilter.nf_conntrack_max=@MAX@
docker run --rm --privileged --network host alpine sysctl -w net.netfilter.nf_conntrack_buckets=@BUCKETS@
# With Kubernetes, on each node, again whenever the node is started:
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: conntrack-limits
  namespace: kube-system
spec:
  selector:
    matchLabels: {app: conntrack-limits}
  template:
    metadata:
      labels: {app: conntrack-limits}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      initContainers:
        - name: set
          image: busybox:1.36
          securityContext: {privileged: true}
          command:
            - sh
            - -ec
            - |
              sysctl -w net.netfilter.nf_conntrack_max=@MAX@
              sysctl -w net.netfilter.nf_conntrack_buckets=@BUCKETS@
      containers:
        - name: pause
          image: registry.k8s.io/pause:3.10
# kube-proxy sets the limit again when it starts: ctwatch limit script --for kube-proxy tells how to stop it.
`,
	}
}

// Generic is for a system that is not known and whose /etc cannot be written: sysctl.d(5) and modules-load.d(5) say what
// the files mean, wherever they come from.
func Generic() Recipe {
	return Recipe{
		System: "a system whose /etc cannot be written",
		Why:    "files in /etc cannot be written here, so what makes the system's image or its configuration has to bring them",
		Source: "https://www.freedesktop.org/software/systemd/man/latest/sysctl.d.html",
		text: `# /etc/modules-load.d/ctwatch.conf
nf_conntrack
# /etc/sysctl.d/99-zz-ctwatch.conf
net.netfilter.nf_conntrack_max = @MAX@
net.netfilter.nf_conntrack_buckets = @BUCKETS@
# /etc/udev/rules.d/99-ctwatch.rules
ACTION=="add", SUBSYSTEM=="module", KERNEL=="nf_conntrack", RUN+="/usr/lib/systemd/systemd-sysctl --prefix=/net/netfilter"
# Where all of /etc is given, by what comes with the machine's first boot (cloud-init, Ignition) or with its image. For now:
sysctl -w net.netfilter.nf_conntrack_max=@MAX@
sysctl -w net.netfilter.nf_conntrack_buckets=@BUCKETS@
`,
	}
}
