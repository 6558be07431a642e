package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/identity"
)

// validity is how long a certificate is good for unless it is said otherwise: a node that is forgotten drops out.
const validity = 365 * 24 * time.Hour

// clusterCommand makes clusters and admits nodes. It needs no agent.
func clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Make a cluster and admit nodes to it", Args: cobra.NoArgs}
	c.AddCommand(clusterInit(), clusterAdmit())
	return c
}

func clusterInit() *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Make the authority of a new cluster, and its key",
		Long: `Make the authority of a new cluster in DIR: authority.key, which admits nodes and is needed for nothing else, authority.pub, by
which nodes know it, and cluster.key, which encrypts what nodes say about who is alive. Whoever has authority.key can admit
nodes: keep DIR off the nodes.`,
		Example: "  mosixctl cluster init /root/mosix-authority",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := args[0]
			if _, err := identity.NewAuthority(dir); err != nil {
				return err
			}
			if err := identity.NewClusterKey(filepath.Join(dir, identity.ClusterKeyFile)); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "The authority is in %s. Admit a node with: mosixctl cluster admit --authority %s NAME\n", dir, dir)
			return nil
		},
	}
}

func clusterAdmit() *cobra.Command {
	var authorityDir, stateDir string
	var valid time.Duration
	c := &cobra.Command{
		Use:   "admit --authority DIR [--state-dir DIR] NAME",
		Short: "Admit a node: write what its agent needs into its state directory",
		Long: `Admit the node NAME: sign a certificate for the key in its state directory, which is made where there is none, and put
authority.pub and cluster.key beside it. Run it on the node, or on the machine that keeps the authority with a --state-dir of
its own, and move that directory to the node. Admitting a node again renews its certificate.`,
		Example: "  mosixctl cluster admit --authority /mnt/usb/mosix-authority $(hostname)\n" +
			"  mosixctl cluster admit --authority ./authority --state-dir ./for-n2 n2",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if valid <= 0 {
				return usagef("--valid %s: want a time from now on, such as 8760h", valid)
			}
			if err := admit(authorityDir, stateDir, id.Node(args[0]), valid); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is admitted until %s.\n", args[0], time.Now().Add(valid).Format(time.DateOnly))
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&authorityDir, "authority", "", "where the authority is kept")
	f.StringVar(&stateDir, "state-dir", config.Default().StateDir, "state directory of the node's agent")
	f.DurationVar(&valid, "valid", validity, "how long the certificate is good for")
	_ = c.MarkFlagRequired("authority") // the flag was defined four lines above
	return c
}

func admit(authorityDir, stateDir string, name id.Node, valid time.Duration) error {
	authority, err := identity.LoadAuthority(authorityDir)
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(filepath.Join(authorityDir, identity.ClusterKeyFile))
	if err != nil {
		return fmt.Errorf("admit %s: read the cluster key that belongs to the authority: %w", name, err)
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return fmt.Errorf("admit %s: make its state directory: %w", name, err)
	}
	if err := authority.Admit(stateDir, name, valid); err != nil {
		return err
	}
	path := filepath.Join(stateDir, identity.ClusterKeyFile)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("admit %s: replace the cluster key: %w", name, err)
	}
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		return fmt.Errorf("admit %s: write the cluster key: %w", name, err)
	}
	return nil
}
