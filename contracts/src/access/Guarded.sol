// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {Sequenced} from "./Sequenced.sol";

/// @notice Pauses of single functions that end by themselves. Only entries carry `whenOpen`; exits, challenges, evidence and verdicts never do.
abstract contract Guarded is AccessManaged, Sequenced {
    uint64 public constant PAUSE_PERIOD = 3 days;
    /// @notice After a pause its function stays open at least this long, so pauses cannot be chained into a stop.
    uint64 public constant PAUSE_COOLDOWN = 3 days;

    mapping(bytes4 selector => uint64) public pausedUntil;

    error Paused(bytes4 selector, uint64 until);
    error NotPausable(bytes4 selector);
    error PausedRecently(bytes4 selector, uint64 again);

    event FunctionPaused(uint64 sequence, bytes4 indexed selector, uint64 until);

    modifier whenOpen() {
        require(block.timestamp >= pausedUntil[msg.sig], Paused(msg.sig, pausedUntil[msg.sig]));
        _;
    }

    /// @notice Pauses one entry for PAUSE_PERIOD. Guardian only.
    function pause(bytes4 selector) external restricted {
        require(_pausable(selector), NotPausable(selector));
        uint64 again = pausedUntil[selector] == 0 ? 0 : pausedUntil[selector] + PAUSE_COOLDOWN;
        require(block.timestamp >= again, PausedRecently(selector, again));
        uint64 until = uint64(block.timestamp) + PAUSE_PERIOD;
        pausedUntil[selector] = until;
        emit FunctionPaused(_next(), selector, until);
    }

    /// @dev Whether a function of the contract carries `whenOpen`.
    function _pausable(bytes4 selector) internal pure virtual returns (bool);
}
