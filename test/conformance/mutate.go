package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/test/cluster"
)

// Mutation is a row of the system-call table that was broken on purpose, and a case that must notice.
type Mutation struct {
	Row    string
	Change string // Go, in package homeproxy, that breaks r, the row
	Case   string
}

// Mutations lists all.
func Mutations() []Mutation {
	return []Mutation{
		{"getpgrp", "r.Class = Guest", "tree/parent_group_and_session_are_constant"},                      // the host's group
		{"uname", "r.Class = Guest", "identity/node_name_is_home_s"},                                      // the host's name
		{"openat", "r.Class = Guest", "files/open_flags"},                                                 // the host's files
		{"read", "r.Args[1].Kind = DataIn", "files/read_and_write_keep_an_offset"},                        // what was read stays at home
		{"pread64", "r.Args[3] = Arg{}", "files/read_and_write_keep_an_offset"},                           // always from the beginning
		{"pipe2", "r.Args[0].Size = 4", "channels/pipe_that_does_not_wait"},                               // one end of two
		{"poll", "r.Args[0].Kind = InArr", "channels/poll_tells_all_events"},                              // the events stay at home
		{"epoll_ctl", "r.Args[3].Size = 8", "channels/epoll_by_level"},                                    // half of the program's word
		{"umask", "r.Class = Guest", "files/mode_follows_umask"},                                          // the host's files get it
		{"recvfrom", "r.Args[4].Kind, r.Args[5].Kind = None, None", "sockets/udp_sends_and_receives"},     // no sender
		{"fcntl", `mutant(r, "F_GETLK").Args = []Arg{rd("lock", 32)}`, "files/record_locks_of_a_process"}, // the lock that was found stays at home
		{"ioctl", `mutant(r, "TIOCGWINSZ").Args = []Arg{wr("arg", 4)}`, "terminals/terminal_has_a_size"},  // half of a window
	}
}

// mutationEnv names, for an agent that BuildMutant has built, the row that it breaks. An agent that is built from the sources
// as they are has no such variable.
const mutationEnv = "CONFORMANCE_MUTATION"

// BuildMutant builds an agent into dir that can break each row of Mutations. The sources stay as they are.
func BuildMutant(ctx context.Context, dir string) (string, error) {
	root, err := cluster.ModuleRoot()
	if err != nil {
		return "", err
	}
	source := filepath.Join(root, "homeproxy", "table_amd64.go")
	b, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	var cases strings.Builder
	for _, m := range Mutations() {
		fmt.Fprintf(&cases, "\t\tcase %q:\n\t\t\t%s\n", m.Row, m.Change)
	}
	text := string(b)
	for _, change := range [][2]string{
		{"import \"sort\"\n", "import (\n\t\"os\"\n\t\"sort\"\n)\n"},
		{"\treturn rows\n}\n", "\tfor i := range rows {\n\t\tr := &rows[i]\n\t\tif r.Name != os.Getenv(\"" + mutationEnv + "\") {\n\t\t\tcontinue\n\t\t}\n\t\tswitch r.Name {\n" +
			cases.String() + "\t\t}\n\t}\n\treturn rows\n}\n\n" +
			"func mutant(r *Row, name string) *Sub {\n\tfor i := range r.Subs {\n\t\tif r.Subs[i].Name == name {\n\t\t\treturn &r.Subs[i]\n\t\t}\n\t}\n\tpanic(name)\n}\n"},
	} {
		if strings.Count(text, change[0]) != 1 {
			return "", fmt.Errorf("%s does not hold %q once: the mutations must be written anew", source, change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	mutant, overlay, agent := filepath.Join(dir, "table.go.mutant"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mosixd")
	plan, err := json.Marshal(map[string]map[string]string{"Replace": {source: mutant}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(mutant, []byte(text), 0o600), os.WriteFile(overlay, plan, 0o600)); err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", agent, "./cmd/mosixd")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build an agent with broken rows: %w\n%s", err, out)
	}
	return agent, nil
}

// Notice runs the case of a mutation, away from home, under agents with that row broken, and returns what it says. Without a
// row it runs the cases of all under the same agents: they must hold then.
func (s *Suite) Notice(ctx context.Context, agent string, row string) (wrong map[string]string, err error) {
	bin, err := cluster.Programs()
	if err != nil {
		return nil, err
	}
	l, err := lab.Up(lab.Options{
		Name: fmt.Sprintf("mutant-%d", os.Getpid()), Nodes: 2, Policy: "none", Bind: s.Files,
		Mosixd: agent, Mosixctl: filepath.Join(bin, "mosixctl"), AgentEnv: []string{mutationEnv + "=" + row},
	})
	if err != nil {
		return nil, err
	}
	c := &cluster.Cluster{Lab: l}
	defer func() { err = errors.Join(err, c.Down()) }()
	r := &Runner{Suite: s, Cluster: c, Home: "n1", Others: []id.Node{"n2"}}
	wrong = map[string]string{}
	for _, m := range Mutations() {
		if row != "" && row != m.Row {
			continue
		}
		for _, one := range s.Cases {
			if one.String() != m.Case {
				continue
			}
			o, err := r.Run(ctx, one, Forwarded)
			if err != nil {
				return nil, err
			}
			wrong[m.Row] = o.Wrong
		}
		if _, ran := wrong[m.Row]; !ran {
			return nil, fmt.Errorf("the mutation of %s names the case %s, which does not exist", m.Row, m.Case)
		}
	}
	return wrong, nil
}
