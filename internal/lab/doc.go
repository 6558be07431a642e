// Package lab makes a cluster on one machine: nodes n1 to nN, each in network, PID, mount, UTS and IPC namespaces of its
// own, joined by a bridge that lives in a network namespace of its own, with one real agent each. Its one invariant:
// everything that belongs to a node ends with the node's init, and everything else that a lab makes lies in two places
// that carry its name (a directory under Root, a cgroup under mosix-lab), so Down leaves nothing behind whatever died
// before.
//
//	machine                         node n1 (n2, n3 … alike)
//	/run/mosix-lab/lab/             /run/mosix-lab/
//	  lab.json     what Up made       bin/     mosixd mosixctl and what was bound; first in PATH
//	  authority/   of the cluster     state/   = n1/ of the machine; only root looks in
//	  n1/ n2/ …                       etc/     hostname passwd group, bound over those of the machine
//	    init.json  who is its init  /home/user1, /home/user2, /home/root
//	    init.sock  asks the init    /tmp /var/tmp /run /home /dev/shm   private tmpfs
//	    agent.log mosixd.toml id/   /proc /dev/pts                      private
//
// PID 1 of a node is the lab's init: mosixctl itself, started again as "mosixctl lab-init". It makes the mounts, reaps, and
// does what it is asked over init.sock: start and end the agent, start a program for a user, cut a link. It outlives its
// starter and every agent.
package lab
