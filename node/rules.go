package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/BurntSushi/toml"

	"mosix/internal/require"
)

// rules are the administrator's, for processes by the name of their command.
type rules struct {
	mu     sync.Mutex
	list   []rule
	read   time.Time // when the file was looked at last
	stamp  time.Time // of the file
	failed string
}

// rule is one of them. The first that fits a command counts.
type rule struct {
	Command string `toml:"command"` // as ps -o comm shows it; * and ? stand for anything
	Move    string `toml:"move"`    // never, or nothing
	Require string `toml:"require"` // nodes that it may go to
	Prefer  string `toml:"prefer"`  // those that it goes to where there is one
	Most    int    `toml:"most"`    // processes of this rule that are away at once; 0: any number

	require, prefer *require.Expr
}

const rulesAge = 5 * time.Second // so often the file is looked at

// parseRules reads a file of rules, all of it or nothing.
func parseRules(text string) ([]rule, error) {
	var f struct {
		Rule []rule `toml:"rule"`
	}
	md, err := toml.Decode(text, &f)
	if err != nil {
		return nil, err
	}
	if u := md.Undecoded(); len(u) > 0 {
		return nil, fmt.Errorf("key %q is not known; docs/operations.md lists the keys", u[0])
	}
	for i := range f.Rule {
		r := &f.Rule[i]
		fail := func(what string, err error) error {
			return fmt.Errorf("rule %d (%q): %s: %w", i+1, r.Command, what, err)
		}
		if _, err := path.Match(r.Command, ""); err != nil || r.Command == "" {
			return nil, fail("command", errors.New("want the name of a command, in which * and ? stand for anything"))
		}
		if r.Move != "" && r.Move != "never" {
			return nil, fail("move", fmt.Errorf("%q means nothing: want never, or no such line", r.Move))
		}
		if r.Most < 0 {
			return nil, fail("most", errors.New("want 0 or more"))
		}
		if r.Require != "" {
			if r.require, err = require.Parse(r.Require); err != nil {
				return nil, fail("require", err)
			}
		}
		if r.Prefer != "" {
			if r.prefer, err = require.Parse(r.Prefer); err != nil {
				return nil, fail("prefer", err)
			}
		}
	}
	return f.Rule, nil
}

// ruleFor finds the rule for a command, nil where there is none. The file is read again when it has changed; one that cannot be read
// leaves the rules as they were.
func (n *Node) ruleFor(command string) *rule {
	r := &n.rules
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.read) > rulesAge {
		r.read = time.Now()
		if err := r.load(n.conf.Rules); err != nil && err.Error() != r.failed {
			r.failed = err.Error()
			n.log.Warn("the rules for commands cannot be read: those of before go on", "file", n.conf.Rules, "err", err)
		} else if err == nil {
			r.failed = ""
		}
	}
	for i := range r.list {
		if ok, _ := path.Match(r.list[i].Command, command); ok {
			return &r.list[i]
		}
	}
	return nil
}

func (r *rules) load(file string) error {
	st, err := os.Stat(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		r.list, r.stamp = nil, time.Time{}
		return nil
	}
	if err != nil || st.ModTime().Equal(r.stamp) {
		return err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	list, err := parseRules(string(b))
	if err == nil {
		r.list = list
	}
	r.stamp = st.ModTime() // also of one that is wrong: it is complained about once
	return err
}

// fits tells whether a command is one of the rule's.
func (r *rule) fits(command string) bool {
	ok, _ := path.Match(r.Command, strings.TrimSpace(command))
	return ok
}
