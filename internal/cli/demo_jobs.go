package cli

import (
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strconv"
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

// demoKind is a program that may be installed, and a task for it. A task goes through the corpus as often as rounds says; its output
// depends on nothing else.
type demoKind struct {
	name string
	kind string
	bins []string // names to look for, in order; the first that answers to probe is taken
	args func(rounds int) []string
	env  []string
}

func corpusTimes(before ...string) func(int) []string {
	return func(rounds int) []string {
		return append(slices.Clone(before), slices.Repeat([]string{demoCorpus}, rounds)...)
	}
}

func roundsAfter(before ...string) func(int) []string {
	return func(rounds int) []string { return append(slices.Clone(before), strconv.Itoa(rounds)) }
}

const awkWords = `{ line[NR] = $0 }
END {
    for (r = 0; r < rounds; r++)
        for (k = 1; k <= NR; k++) {
            m = split(line[k], f)
            for (i = 1; i <= m; i++) { n[f[i]]++; s = (s * 31 + length(f[i])) % 1000003 }
        }
    for (w in n) d++
    print NR, d, s
}`

func awkArgs(rounds int) []string {
	return []string{"-v", "rounds=" + strconv.Itoa(rounds), awkWords, demoCorpus}
}

// perlLines gives both perl tasks the corpus, read once.
const perlLines = `open my $f, "<", "` + demoCorpus + `" or die "open: $!"; my @lines = <$f>;
`

const perlWords = perlLines + `for my $round (1 .. shift) { for (@lines) { $n{$_}++ for /\w+/g } }
print "$_ $n{$_}\n" for sort keys %n;`

const perlIndex = perlLines + `for my $round (1 .. shift) {
    for (@lines) { $i++; $s{$_} = (($s{$_} // 0) * 31 + $i) % 1000003 for /[A-Za-z_]\w*/g }
}
print "$_ $s{$_}\n" for sort keys %s;`

// pythonFiles gives both python tasks the tree, read once: each round takes the next piece of it, all of the same size.
const pythonFiles = `import sys, os
files = sorted(os.path.join(d, f) for d, _, names in os.walk("src") for f in names)
def read(name):
    with open(name, "rb") as f:
        return f.read()
tree = b"".join(read(name) for name in files)
size = 1 << 16
def texts():
    for i in range(int(sys.argv[1])):
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
	{name: "gzip", kind: "gzip", bins: []string{"gzip"}, args: corpusTimes("-9", "-n", "-c")},
	{name: "python-tokens", kind: "python3", bins: pythons, args: roundsAfter("-c", pythonTokens)},
	{name: "go-parse", kind: "go", bins: []string{demoLoad}, args: roundsAfter("demo-load", "parse"), env: goThreads},
	{name: "awk-words", kind: "awk", bins: []string{"awk", "gawk", "mawk"}, args: awkArgs},
	{name: "perl-words", kind: "perl", bins: perls, args: roundsAfter("-e", perlWords)},
	{name: "sha256sum", kind: "sha256sum", bins: []string{"sha256sum"}, args: corpusTimes()},
	{name: "python-zlib", kind: "python3", bins: pythons, args: roundsAfter("-c", pythonCompress)},
	{name: "go-deflate", kind: "go", bins: []string{demoLoad}, args: roundsAfter("demo-load", "deflate"), env: goThreads},
	{name: "perl-index", kind: "perl", bins: perls, args: roundsAfter("-e", perlIndex)},
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
	Rounds int    `json:"rounds"`
}

func (j demoJob) command(dir string) (*exec.Cmd, error) {
	i := slices.IndexFunc(demoKinds, func(k demoKind) bool { return k.name == j.Task })
	if i < 0 {
		return nil, fmt.Errorf("no task %q", j.Task)
	}
	c := exec.Command(j.Path, demoKinds[i].args(j.Rounds)...)
	c.Dir = dir
	c.Env = append(c.Environ(), "LC_ALL=C", "PYTHONDONTWRITEBYTECODE=1")
	c.Env = append(c.Env, demoKinds[i].env...)
	return c, nil
}

// chooseJobs looks for what is installed: every task whose program is there, and some of them again until there are nine.
// try runs a task for one round and says how many CPU seconds that took.
func chooseJobs(try func(demoJob) (cpu float64, err error)) (jobs []demoJob, cpu map[string]float64, err error) {
	var found []demoJob
	cpu = map[string]float64{}
	for _, k := range demoKinds {
		for _, bin := range k.bins {
			path, err := exec.LookPath(bin)
			if err != nil {
				continue
			}
			j := demoJob{Name: k.name, Kind: k.kind, Task: k.name, Path: path, Rounds: 1}
			used, err := try(j)
			if err != nil {
				continue // some are there and do not work: a shim in a folder that this user may not enter
			}
			found = append(found, j)
			cpu[j.Task] = used
			break
		}
	}
	if kinds := kindNames(found); len(kinds) < 4 {
		return nil, nil, fmt.Errorf("the demonstration needs at least four kinds of programs and found %d (%s); install some of gzip, python3, awk, perl, coreutils",
			len(kinds), strings.Join(kinds, ", "))
	}
	jobs = slices.Clone(found)
	for i := 0; len(jobs) < demoPrograms; i++ {
		j := found[i%len(found)]
		j.Name = fmt.Sprintf("%s-%d", j.Name, i/len(found)+2)
		jobs = append(jobs, j)
	}
	return jobs, cpu, nil
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

// demoCost is the CPU time that a task uses, in seconds: to start, and for each round.
type demoCost struct{ start, round float64 }

func (c demoCost) of(rounds int) float64 { return c.start + c.round*float64(rounds) }

// rounds tells how many rounds use target CPU seconds.
func (c demoCost) rounds(target float64) int { return max(1, int(math.Ceil((target-c.start)/c.round))) }

// measureCost finds the cost of a task from short runs: one of one round, which used u seconds, and others that cpu makes.
func measureCost(u float64, cpu func(rounds int) (float64, error)) (demoCost, error) {
	const (
		enough = 0.3 // CPU seconds by which two runs must differ for the difference to be worth something
		long   = 1.5 // CPU seconds of a run beside which the time to start is nothing
	)
	k0, k, u0 := 0, 1, 0.0
	for (k0 == 0 || u-u0 < enough) && u < long && k < 1<<20 {
		more := 1.2 * enough / max(u-u0, 0.001)
		k0, u0 = k, u
		k *= min(max(int(more)+1, 2), 50)
		var err error
		if u, err = cpu(k); err != nil {
			return demoCost{}, err
		}
	}
	c := demoCost{round: max((u-u0)/float64(k-k0), 1e-6)}
	c.start = max(u-c.round*float64(k), 0)
	return c, nil
}
