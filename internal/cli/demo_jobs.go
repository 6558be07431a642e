package cli

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Names in the folder where the programs of the demonstration run.
const (
	demoTree   = "src"        // the Go source files
	demoCorpus = "corpus.txt" // all of them, one after the other
)

// demoLoad is the name under which mosixctl is the multi-threaded Go program: by its own it is a tool of the session, which the
// balancer leaves at home.
const demoLoad = "demo-load"

// demoPrograms is how many programs run at once.
const demoPrograms = 9

// demoKind is a program that may be installed, and a task for it. A task is fed with units on its standard input and does a round of
// work for each; its output depends on their number alone.
type demoKind struct {
	name string
	kind string
	bins []string // names to look for, in order; the first that answers to probe is taken
	args []string
	env  []string
	data bool // its units are pieces of the corpus; otherwise lines that say no more than: again
}

const awkWords = `FILENAME == "` + demoCorpus + `" { line[++lines] = $0; next }
{
    for (k = 1; k <= 4000; k++) {
        m = split(line[at++ % lines + 1], f)
        for (i = 1; i <= m; i++) { n[f[i]]++; s = (s * 31 + length(f[i])) % 1000003 }
    }
}
END { for (w in n) d++; print at, d, s }`

// perlLines gives both perl tasks the corpus, read once; each round takes the next lines.
const perlLines = `open my $f, "<", "` + demoCorpus + `" or die "open: $!"; my @lines = <$f>; my $at = 0;
sub part { map { $lines[$at++ % @lines] } 1 .. 4000 }
`

const perlWords = perlLines + `while (<STDIN>) { for (part) { $n{$_}++ for /\w+/g } }
print "$_ $n{$_}\n" for sort keys %n;`

const perlIndex = perlLines + `while (<STDIN>) {
    for (part) { $i++; $s{$_} = (($s{$_} // 0) * 31 + $i) % 1000003 for /[A-Za-z_]\w*/g }
}
print "$_ $s{$_}\n" for sort keys %s;`

// pythonFiles gives both python tasks the tree, read once: each round takes the next piece of it.
const pythonFiles = `import sys, os
files = sorted(os.path.join(d, f) for d, _, names in os.walk("src") for f in names)
def read(name):
    with open(name, "rb") as f:
        return f.read()
tree = b"".join(read(name) for name in files)
size = 1 << 16
def texts():
    for i, _ in enumerate(sys.stdin):
        at = i * size % max(len(tree) - size, 1)
        yield tree[at:at + size]
`

const pythonTokens = pythonFiles + `import re, collections
token = re.compile(rb'[A-Za-z_]\w*|\d+|"[^"\n]*"|//[^\n]*|[^\s\w]')
count = collections.Counter()
for text in texts():
    count.update(m.group() for m in token.finditer(text))
for word, n in sorted(count.items()):
    print(n, word)
`

const pythonCompress = pythonFiles + `import zlib
for text in texts():
    packed = zlib.compress(text, 9)
    print(len(text), len(packed), zlib.crc32(packed))
`

var demoKinds = []demoKind{
	{name: "gzip", kind: "gzip", bins: []string{"gzip"}, args: []string{"-9", "-n", "-c"}, data: true},
	{name: "python-tokens", kind: "python3", bins: pythons, args: []string{"-c", pythonTokens}},
	{name: "go-parse", kind: "go", bins: []string{demoLoad}, args: []string{"demo-load", "parse"}, env: goThreads},
	{name: "awk-words", kind: "awk", bins: []string{"awk", "gawk", "mawk"}, args: []string{awkWords, demoCorpus, "-"}},
	{name: "perl-words", kind: "perl", bins: perls, args: []string{"-e", perlWords}},
	{name: "sha256sum", kind: "sha256sum", bins: []string{"sha256sum"}, data: true},
	{name: "python-zlib", kind: "python3", bins: pythons, args: []string{"-c", pythonCompress}},
	{name: "go-deflate", kind: "go", bins: []string{demoLoad}, args: []string{"demo-load", "deflate"}, env: goThreads},
	{name: "perl-index", kind: "perl", bins: perls, args: []string{"-e", perlIndex}},
}

var (
	pythons   = []string{"python3", "/usr/bin/python3", "/usr/local/bin/python3"}
	perls     = []string{"perl", "/usr/bin/perl"}
	goThreads = []string{"GOMAXPROCS=4", "GOGC=400"} // a busy collector uses more CPU time when CPUs are idle
)

// demoJob is a task of one run.
type demoJob struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Task   string `json:"task"` // name of the demoKind
	Path   string `json:"path"`
	Rounds int    `json:"rounds"` // units to feed; 0: as many as make demoCPUSeconds
}

// command makes the job's process, and what feeds it.
func (j demoJob) command(dir string) (*exec.Cmd, *demoFeeder, error) {
	i := slices.IndexFunc(demoKinds, func(k demoKind) bool { return k.name == j.Task })
	if i < 0 {
		return nil, nil, fmt.Errorf("no task %q", j.Task)
	}
	k := demoKinds[i]
	c := exec.Command(j.Path, k.args...)
	c.Dir = dir
	c.Env = append(c.Environ(), "LC_ALL=C", "PYTHONDONTWRITEBYTECODE=1")
	c.Env = append(c.Env, k.env...)
	f, err := newDemoFeeder(filepath.Join(dir, demoCorpus), k.data)
	if err != nil {
		return nil, nil, err
	}
	c.Stdin = f.read
	return c, f, nil
}

// chooseJobs looks for what is installed: every task whose program is there, and some of them again until there are nine. try runs
// a task for one round.
func chooseJobs(try func(demoJob) error) ([]demoJob, error) {
	var found []demoJob
	for _, k := range demoKinds {
		for _, bin := range k.bins {
			path, err := exec.LookPath(bin)
			if err != nil {
				continue
			}
			j := demoJob{Name: k.name, Kind: k.kind, Task: k.name, Path: path, Rounds: 1}
			if err := try(j); err != nil {
				continue // some are there and do not work: a shim in a folder that this user may not enter
			}
			j.Rounds = 0
			found = append(found, j)
			break
		}
	}
	if kinds := kindNames(found); len(kinds) < 4 {
		return nil, fmt.Errorf("the demonstration needs at least four kinds of programs and found %d (%s); install some of gzip, python3, awk, perl, coreutils",
			len(kinds), strings.Join(kinds, ", "))
	}
	jobs := slices.Clone(found)
	for i := 0; len(jobs) < demoPrograms; i++ {
		j := found[i%len(found)]
		j.Name = fmt.Sprintf("%s-%d", j.Name, i/len(found)+2)
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func kindNames(jobs []demoJob) []string {
	var out []string
	for _, j := range jobs {
		if !slices.Contains(out, j.Kind) {
			out = append(out, j.Kind)
		}
	}
	return out
}
