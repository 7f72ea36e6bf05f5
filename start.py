import torch
from ncn.settings import load_params
from ncn.model import load_model
from ncn.adaptation.methods import made_ready
from ncn.adaptation.loss import loss_on
from ncn.adaptation.second_text import second_text
from ncn.model.inputs import validation_rows
from ncn.corpus.tokenizer import load_tokenizer
torch.set_num_threads(1)
p=load_params(); tok=load_tokenizer("data/tokens/tokenizer")
for s in (1,2,3):
    b=load_model(f"data/models/baseline-{s}")
    rows=validation_rows("data/tokens",b)
    m=made_ready(b,"control",p.adapted_control,s)
    t=torch.from_numpy(rows.tokens[:8].astype("int64"))[:,:-1]
    with torch.no_grad(): 
        d=(m.eval()(t)-b.eval()(t)).abs().max().item()
        sig={k:(v.mean().item(),v.std().item()) for k,v in m.signals(t).items()}
    x,y=loss_on(b,rows,32,""),loss_on(m,rows,32,"")
    print(s,len(rows),round(x,5),round(y,5),round(y-x,5),"logit",round(d,4),{k:tuple(round(z,4) for z in v) for k,v in sig.items()},flush=True)
