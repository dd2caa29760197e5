package rival

// rival is one that has settings of its own, and what it is known by.
type rival struct {
	Rival
	units []string // names of services, without their suffix
	comms []string // names of tasks: 15 bytes at most
}

const (
	kubeWhen = "it sets 32,768 for each CPU, and at least 131,072, whenever it starts; versions before the autumn of 2026 lower a higher limit, too"
	inFile   = "it sets what a line in a sysctl.d file says: `ctwatch limit show` names file and line"
)

// known are the programs that are known to set nf_conntrack_max, as of 2026.
func known() []rival {
	return []rival{
		{
			Rival: Rival{BySelf, "ctwatch",
				"`ctwatch limit pause` keeps ctwatch from setting it, `ctwatch limit undo` takes the last change back",
				"it sets the limit by itself with `--remediate on`, and for whoever runs `ctwatch limit`"},
			units: []string{"ctwatch"},
			comms: []string{"ctwatch"},
		},
		// kube-proxy sets max(conntrack-max-per-core * CPUs, conntrack-min); and nothing if the former is 0, whatever the latter is:
		// getConntrackMax in pkg/proxy/conntrack/sysctls.go. That it lowers no more: kubernetes #142035.
		{
			Rival: Rival{ByKubeProxy, "kube-proxy",
				"`conntrack.maxPerCore: 0` in its KubeProxyConfiguration (`--conntrack-max-per-core=0` without one) has it leave the limit alone; " +
					"`conntrack.min: N` (`--conntrack-min=N`) in its place has it set at least N",
				kubeWhen},
			units: []string{"kube-proxy"},
			comms: []string{"kube-proxy"},
		},
		// k3s sets the same by itself before it starts kube-proxy as one of its threads, and so does rke2, which is built on it:
		// pkg/agent/syssetup/setup.go of k3s.
		{
			Rival: Rival{ByKubeProxy, "kube-proxy in k3s",
				"`kube-proxy-arg: [\"conntrack-max-per-core=0\"]` in /etc/rancher/k3s/config.yaml has it leave the limit alone; " +
					"`\"conntrack-min=N\"` in its place has it set at least N",
				kubeWhen},
			units: []string{"k3s", "k3s-agent"},
			comms: []string{"k3s", "k3s-server", "k3s-agent"},
		},
		{
			Rival: Rival{ByKubeProxy, "kube-proxy in rke2",
				"`kube-proxy-arg: [\"conntrack-max-per-core=0\"]` in /etc/rancher/rke2/config.yaml has it leave the limit alone; " +
					"`\"conntrack-min=N\"` in its place has it set at least N",
				kubeWhen},
			units: []string{"rke2-server", "rke2-agent"},
			comms: []string{"rke2"},
		},
		// microk8s #119.
		{
			Rival: Rival{ByKubeProxy, "kube-proxy in microk8s",
				"`--conntrack-max-per-core=0` in /var/snap/microk8s/current/args/kube-proxy has it leave the limit alone; " +
					"`--conntrack-min=N` in its place has it set at least N",
				kubeWhen},
			units: []string{"snap.microk8s.daemon-kubelite", "snap.microk8s.daemon-proxy"},
			comms: []string{"kubelite"},
		},
		// update_nf_conntrack_max in src/PVE/Firewall.pm of 2026: the default or the option, whichever is more.
		{
			Rival: Rival{ByPVE, "pve-firewall",
				"`nf_conntrack_max: N` in the section [OPTIONS] of /etc/pve/nodes/NODE/host.fw is what it sets, and 262,144 where N is less",
				"it compares the limit with its option whenever it updates its rules, every few seconds"},
			units: []string{"pve-firewall"},
			comms: []string{"pve-firewall"},
		},
		// The same firewall for nftables: proxmox-firewall/src/firewall.rs. The task's name is cut.
		{
			Rival: Rival{ByPVE, "proxmox-firewall",
				"`nf_conntrack_max: N` in the section [OPTIONS] of /etc/pve/nodes/NODE/host.fw is what it sets; without that line it leaves the limit alone",
				"it sets the limit of its option whenever it updates its rules, every few seconds"},
			units: []string{"proxmox-firewall"},
			comms: []string{"proxmox-firewal"},
		},
		// tuned/plugins/plugin_sysctl.py: the profile first, then the files in the order named below, unless reapply_sysctl is off.
		{
			Rival: Rival{ByTuned, "tuned",
				"net.netfilter.nf_conntrack_max in the section [sysctl] of its profile, which `tuned-adm active` names, is what it sets; " +
					"a line in /etc/sysctl.d wins over that, unless /etc/tuned/tuned-main.conf says `reapply_sysctl=0`",
				"it sets what its profile says whenever it starts or the profile changes, and then what /run/sysctl.d, /etc/sysctl.d and /etc/sysctl.conf say"},
			units: []string{"tuned"},
			comms: []string{"tuned"},
		},
		// /usr/lib/modprobe.d/firewalld-sysctls.conf. Where nobody but the kernel asks for the module, there is no unit to see.
		{
			Rival: Rival{ByFirewalld, "firewalld", inFile,
				"its line in modprobe.d runs `sysctl --system` whenever the module is loaded"},
			units: []string{"firewalld"},
			comms: []string{"firewalld"},
		},
		{
			Rival: Rival{ByUFW, "ufw",
				"it sets what a line in /etc/ufw/sysctl.conf says, or in the file that `IPT_SYSCTL` in /etc/default/ufw names",
				"it applies that file whenever it starts"},
			units: []string{"ufw"},
			comms: []string{"ufw"},
		},
		{
			Rival: Rival{ByOther, "systemd-sysctl", inFile,
				"it runs at boot, and when a package with settings is installed"},
			units: []string{"systemd-sysctl", "systemd-udevd", "procps"},
			comms: []string{"systemd-sysctl"},
		},
		// /etc/sysconfig/iptables-config of iptables-services; the items of the list are matched by fgrep.
		{
			Rival: Rival{ByOther, "the iptables script",
				"in /etc/sysconfig/iptables-config, `IPTABLES_MODULES_UNLOAD=no` keeps the module and its limit, " +
					"and `IPTABLES_SYSCTL_LOAD_LIST=.nf_conntrack` applies what sysctl.d says",
				"it unloads conntrack's module and loads it again whenever it is restarted, and the limit is the kernel's own then"},
			units: []string{"iptables", "ip6tables"},
			comms: []string{"iptables.init", "ip6tables.init"},
		},
		{
			Rival: Rival{ByShell, "rc.local",
				"it sets what a line in /etc/rc.local or /etc/rc.d/rc.local says",
				"it runs once, at the end of each boot"},
			units: []string{"rc-local"},
			comms: []string{"rc.local"},
		},
	}
}
