package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"mosix/internal/config"
	"mosix/internal/feature"
	"mosix/internal/kern"
	"mosix/node"
)

// Daemon is the main function of mosixd; it returns the exit code.
func Daemon(args []string) int {
	c := daemonCommand()
	c.SetArgs(args)
	if err := c.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "mosixd:", err)
		return 1
	}
	return 0
}

func daemonCommand() *cobra.Command {
	path, level, policy := config.Path, "", ""
	c := &cobra.Command{
		Use: "mosixd", Short: "The agent of a mosix node", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		Long: "mosixd lets long-running processes of this machine continue on less busy ones, and takes in theirs.\nIt runs as root, in the foreground, and ends on SIGTERM or SIGINT: guests are sent away, own processes brought home.",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := config.Load(path, c.Flags().Changed("config"))
			if err != nil {
				return err
			}
			if level != "" {
				conf.LogLevel = level
			}
			if policy != "" {
				conf.Policy = policy
			}
			if os.Geteuid() != 0 {
				return fmt.Errorf("mosixd must run as root: it holds processes of all users; start it by systemctl start mosixd, or with sudo")
			}
			var lv slog.Level
			if err := lv.UnmarshalText([]byte(conf.LogLevel)); err != nil {
				return fmt.Errorf("log_level = %q: want debug, info, warn or error", conf.LogLevel)
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: lv}))
			if err := kern.Prefer(-10); err != nil {
				log.Info("this agent competes with ordinary programs for processors: processes are held longer when they move", "err", err)
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			go warnOfLacks(log)
			return node.Run(ctx, conf, log)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", path, "configuration file")
	c.Flags().StringVar(&level, "log-level", "", "debug, info, warn or error; overrides the file")
	c.Flags().StringVar(&policy, "policy", "", "balancing policy; overrides the file")
	return c
}

// warnOfLacks says at the start what each move would fail for.
func warnOfLacks(log *slog.Logger) {
	for _, f := range feature.All() {
		if !f.Required() {
			continue
		}
		if err := f.Err(); errors.Is(err, feature.ErrNotSupported) {
			log.Warn("nothing moves to or from this node: its kernel or its processor lacks something (mosixctl check says all)", "lacks", f.Name, "why", f.Why, "err", err)
		}
	}
}
