package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mosix/internal/identity"
)

func runCluster(args ...string) (string, error) {
	var out bytes.Buffer
	c := clusterCommand()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(io.Discard)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.Execute()
	return out.String(), err
}

// An administrator makes a cluster and admits two nodes; each then believes the other.
func TestClusterOfTwo(t *testing.T) {
	dir := t.TempDir()
	authority := filepath.Join(dir, "authority")
	if _, err := runCluster("init", authority); err != nil {
		t.Fatal(err)
	}
	var nodes [2]*identity.Identity
	for i, name := range []string{"n1", "n2"} {
		state := filepath.Join(dir, name)
		out, err := runCluster("admit", "--authority", authority, "--state-dir", state, name)
		if err != nil || !strings.Contains(out, name+" is admitted until ") {
			t.Fatalf("admit: %q, %v", out, err)
		}
		if nodes[i], err = identity.Load(state); err != nil {
			t.Fatal(err)
		}
		if string(nodes[i].Name()) != name {
			t.Errorf("admitted as %s, want %s", nodes[i].Name(), name)
		}
		for _, f := range []string{identity.NodeKeyFile, identity.ClusterKeyFile} {
			if fi, err := os.Stat(filepath.Join(state, f)); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v, want mode 0600", f, fi, err)
			}
		}
		if _, err := os.Stat(filepath.Join(state, identity.AuthorityKeyFile)); err == nil {
			t.Error("the node has the authority's key")
		}
	}
	if !bytes.Equal(nodes[0].ClusterKey, nodes[1].ClusterKey) {
		t.Error("the nodes have different cluster keys")
	}
	if !nodes[0].Authority.Equal(nodes[1].Authority) {
		t.Error("the nodes believe different authorities")
	}

	// A second time: the authority stays, the node keeps its key.
	if _, err := runCluster("init", authority); err == nil {
		t.Error("init replaced an authority")
	}
	if _, err := runCluster("admit", "--authority", authority, "--state-dir", filepath.Join(dir, "n1"), "n1"); err != nil {
		t.Errorf("renew: %v", err)
	}
	if again, err := identity.Load(filepath.Join(dir, "n1")); err != nil || again.PeerID() != nodes[0].PeerID() {
		t.Errorf("after renewal: %v", err)
	}
}

func TestClusterRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"admit", "--state-dir", dir, "n1"},
		{"admit", "--authority", filepath.Join(dir, "nowhere"), "--state-dir", dir, "n1"},
		{"admit", "--authority", dir, "--valid", "-1s", "--state-dir", dir, "n1"},
		{"admit", "--authority", dir, "--state-dir", dir},
		{"init"},
	} {
		if out, err := runCluster(args...); err == nil {
			t.Errorf("mosixctl cluster %s: %q, want an error", strings.Join(args, " "), out)
		}
	}
	if e, err := os.ReadDir(dir); err != nil || len(e) != 0 {
		t.Errorf("what was refused left %v", e)
	}
}
