"""What the load client of the peers' benchmark needs added, to put many rooms under load, as edits of its source.

Each is (anchor, replacement); the anchor must stand in the source exactly once, so that another version of it is
noticed rather than changed in the wrong place.
"""

MARK = "~T"  # stamps a text; the original's "@T" would look like a mention, of which ordinary messages have none
STAMP_LENGTH = len(MARK) + 19  # nanoseconds

_LINES = r"""
static char **keys, **rooms; static int own, lastof, beside; static uint64_t acks;
static char **lines(const char*file){
  FILE*f=fopen(file,"r"); if(!f){perror(file);exit(1);}
  size_t n=0,cap=1024; char**l=malloc(cap*sizeof*l),b[256];
  while(fgets(b,sizeof b,f)){ b[strcspn(b,"\n")]=0; if(n==cap)l=realloc(l,(cap*=2)*sizeof*l); l[n++]=strdup(b); }
  fclose(f); return l; }
"""
_SIGHT = r"""
static struct { uint64_t t; int n; } sightings[1<<16];
static void sight(uint64_t t){
  unsigned i=(t*0x9E3779B97F4A7C15ull)>>48;
  while(sightings[i].t&&sightings[i].t!=t)i=(i+1)&65535;
  sightings[i].t=t; if(++sightings[i].n==N&&counting)record(now()-t); }
"""
_WORDS = r"""
    else if(s[0]=='%'&&s[1]=='K'){k+=sprintf(dst+k,"%s",keys[id]);s++;}
    else if(s[0]=='%'&&s[1]=='R'){k+=sprintf(dst+k,"%s",rooms[id]);s++;}
"""
_OPTIONS = """
    case 12:keys=lines(optarg);break; case 13:rooms=lines(optarg);break; case 14:own=1;break; case 15:lastof=1;break;
    case 16:beside=atoi(optarg);break;
"""
_ANSWERS = r"""
  if(counting&&n>14&&!memcmp(p,"{\"type\":\"ack\"",13))acks++;
  static int refused; if(n>16&&!memcmp(p,"{\"type\":\"error\"",15)&&refused++<5)
    fprintf(stderr,"conn %d refused: %.*s\n",c->id,(int)n,p);
"""
_CLOSED = r"""
    fprintf(stderr,"conn %d closed: %d %.*s\n",c->id,n>1?(p[0]&255)<<8|(p[1]&255):0,n>2?(int)n-2:0,p+2);
"""
_LOST = r"""
    fprintf(stderr,"conn %d lost: %s\n",c->id,r?strerror(errno):"end of stream");
"""


def _phase(name: str) -> str:
    return rf'printf("{{\"phase\":\"{name}\"}}\n"); fflush(stdout);'


CHANGES: tuple[tuple[str, str], ...] = (
    # Who is who: %K is the token of this connection, %R its room, each a line of a file.
    ("static uint64_t now(void)", f"{_LINES}static uint64_t now(void)"),
    ("else if(s[0]=='%'&&s[1]=='S')", f"{_WORDS}    else if(s[0]=='%'&&s[1]=='S')"),
    (
        '{"hold",1,0,11},',
        '{"hold",1,0,11},{"keys",1,0,12},{"rooms",1,0,13},{"own",0,0,14},{"last",0,0,15},{"beside",1,0,16},',
    ),
    ("case 11:hold=atoi(optarg);break;", f"case 11:hold=atoi(optarg);break;{_OPTIONS}"),
    # Every second connection goes to a second worker; the first, which publishes, to the first.
    (
        "inet_pton(AF_INET,host,&a.sin_addr); int one=1;",
        "a.sin_port=htons(beside&&i%2?beside:port); inet_pton(AF_INET,host,&a.sin_addr); int one=1;",
    ),
    # Every publisher in a room of its own: each event is the answer to one's own message.
    ("if(c->stamped% (P>0?P:1)==0||P==1)", "if(own||c->stamped% (P>0?P:1)==0||P==1)"),
    # The latency to the last member of a message, not to each.
    ("static char scratch[1<<20];", f"{_SIGHT}static char scratch[1<<20];"),
    (
        "if(counting){ total++; record(now()-t);}",
        "if(counting){ total++; if(!lastof)record(now()-t);} if(lastof)sight(t);",
    ),
    # Acknowledgements, which carry no text; and refusals.
    ("char*q=p,*e=p+n; int mine=0;", f"{_ANSWERS}  char*q=p,*e=p+n; int mine=0;"),
    ('memmem(q,e-q,"@T",2)', f'memmem(q,e-q,"{MARK}",2)'),
    ('printf("{\\"conns\\":%d,', 'printf("{\\"acks\\":%llu,\\"conns\\":%d,'),
    ("    N,ready,alive,", "    (unsigned long long)acks,N,ready,alive,"),
    # Why a socket died.
    ("if(op==8){c->state=3;", f"if(op==8){{{_CLOSED}c->state=3;"),
    ("if(r<0&&errno==EAGAIN)continue; c->state=3;", f"if(r<0&&errno==EAGAIN)continue;{_LOST}c->state=3;"),
    # Whoever started it looks at other clocks at these moments.
    ("long rss1=rss(); if(hold)", f"long rss1=rss(); {_phase('open')} if(hold)"),
    ("counting=1; double c0=cpu();", f"{_phase('counting')} counting=1; double c0=cpu();"),
    # Its sockets stay open until those clocks have been read: closing them costs the server time, too.
    (
        "(rss1-rss0)/(double)N);\n  return 0; }",
        "(rss1-rss0)/(double)N);\n  fflush(stdout); usleep(100000); return 0; }",
    ),
)
