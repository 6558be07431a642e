package cli

import "github.com/spf13/cobra"

// extraCommands are the commands of other files.
var extraCommands = []func() *cobra.Command{}
