"""Tickets go to teams, and whoever moves one teaches the router. Run: uvicorn app:app"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from ruvllm import Action, RuvLLM

TEAMS = Path(__file__).with_name("teams.json")


class Ticket(BaseModel):
    text: str


class Move(BaseModel):
    text: str
    team: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.llm = llm = RuvLLM(TEAMS, state=os.environ.get("TICKETS_STATE", "tickets.db"))
    try:
        yield
    finally:
        await llm.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/tickets")
async def ticket(given: Ticket) -> dict[str, object]:
    """The team, or a person who picks one of the likeliest."""
    decision = await app.state.llm.aroute(given.text)
    likeliest = [decision.agent, *(one.agent for one in decision.alternatives)]
    sure = decision.action == Action.USE
    return {"team": decision.agent if sure else None, "likeliest": likeliest, "confidence": decision.confidence}


@app.post("/moves")
async def move(given: Move) -> dict[str, bool]:
    """A person put a ticket where it belongs."""
    await app.state.llm.afeedback(given.text, given.team)
    return {"learnt": True}
