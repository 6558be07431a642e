package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) docsCommand() *cobra.Command {
	docs := &cobra.Command{Use: "docs", Short: "Write the manual", Hidden: true, Args: cobra.NoArgs}
	write := func(kind, short string, gen func(root *cobra.Command, dir string) error) *cobra.Command {
		return &cobra.Command{Use: kind + " DIR", Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write the manual: %w", err)
			}
			root := c.Root()
			root.DisableAutoGenTag = true // the same sources give the same pages
			if err := gen(root, args[0]); err != nil {
				return fmt.Errorf("write the manual: %w", err)
			}
			return nil
		}}
	}
	docs.AddCommand(
		write("man", "Write manual pages into DIR", func(root *cobra.Command, dir string) error {
			epoch := time.Unix(0, 0).UTC()
			return doc.GenManTree(root, &doc.GenManHeader{Title: "MOSIXCTL", Section: "1", Source: "mosix", Manual: "mosix", Date: &epoch}, dir)
		}),
		write("markdown", "Write the manual as markdown into DIR", doc.GenMarkdownTree),
	)
	return docs
}
