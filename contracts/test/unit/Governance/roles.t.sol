// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract GovernanceRoles is Network {
    /// @dev The functions that are not for everybody, and who alone may call them.
    struct Rule {
        address target;
        bytes call;
        address allowed;
    }

    function _rules() private view returns (Rule[] memory rules) {
        rules = new Rule[](22);
        (address d, address s, address t) = (address(disputes), address(settlement), address(timelock));
        rules[0] = Rule(address(staking), abi.encodeCall(staking.freeze, (owner, 1)), d);
        rules[1] = Rule(address(staking), abi.encodeCall(staking.unfreeze, (owner, 0)), d);
        rules[2] = Rule(address(staking), abi.encodeCall(staking.slash, (owner, 1, owner, 0)), d);
        rules[3] = Rule(address(staking), abi.encodeCall(staking.creditPool, (owner, 0)), s);
        rules[4] = Rule(address(providers), abi.encodeCall(providers.jail, (owner)), d);
        rules[5] = Rule(address(commitments), abi.encodeCall(commitments.resetRecord, (owner)), d);
        rules[6] = Rule(address(escrow), abi.encodeCall(escrow.debit, (payer, gateway, owner, modelId, 0)), s);
        rules[7] = Rule(address(escrow), abi.encodeCall(escrow.creditRefund, (payer, 0)), s);
        rules[8] = Rule(address(escrow), abi.encodeCall(escrow.pay, (payer, 0)), s);
        rules[9] = Rule(address(escrow), abi.encodeCall(escrow.burn, (0)), s);
        rules[10] = Rule(address(rewards), abi.encodeCall(rewards.record, (owner, 1)), s);
        rules[11] = Rule(address(settlement), abi.encodeCall(settlement.refund, (owner, payer, modelId, 0)), d);
        rules[12] = Rule(address(disputes), abi.encodeCall(disputes.punish, (owner, payer)), address(contradictions));
        rules[13] = Rule(address(disputes), abi.encodeCall(disputes.setParameters, (_disputeParameters())), t);
        rules[14] = Rule(address(settlement), abi.encodeCall(settlement.setParameters, (ISettlement.Parameters(address(1), 1, 1, 1))), t);
        rules[15] = Rule(address(rewards), abi.encodeCall(rewards.setEmission, (1)), t);
        rules[16] = Rule(address(staking), abi.encodeCall(staking.pause, (staking.stake.selector)), address(this));
        rules[17] = Rule(address(escrow), abi.encodeCall(escrow.pause, (escrow.deposit.selector)), address(this));
        rules[18] = Rule(address(models), abi.encodeCall(models.pause, (models.register.selector)), address(this));
        rules[19] = Rule(address(providers), abi.encodeCall(providers.pause, (providers.register.selector)), address(this));
        rules[20] = Rule(address(verifiers), abi.encodeCall(verifiers.pause, (verifiers.register.selector)), address(this));
        rules[21] = Rule(address(disputes), abi.encodeCall(disputes.cancel, ("x")), t);
    }

    function test_roles__matrix__each_restricted_function_by_its_holder_alone() public {
        _joinAll();
        vm.prank(address(disputes));
        staking.freeze(owner, 0);
        address[8] memory callers = [
            address(disputes),
            address(settlement),
            address(timelock),
            address(contradictions),
            address(this),
            owner,
            gateway,
            address(rewards)
        ];
        Rule[] memory rules = _rules();
        for (uint256 i; i < rules.length; ++i) {
            for (uint256 k; k < callers.length; ++k) {
                // The pool of delegators has two payers.
                if (i == 3 && callers[k] == address(rewards)) continue;
                uint256 snapshot = vm.snapshotState();
                vm.prank(callers[k]);
                (bool ok, bytes memory data) = rules[i].target.call(rules[i].call);
                // To cancel what is no dispute is refused for that reason, and to its holder only.
                bool reached = ok || (i == 21 && bytes4(data) == IDisputes.WrongClaim.selector);
                assertEq(reached, callers[k] == rules[i].allowed, string.concat(vm.toString(i), " by ", vm.toString(k)));
                vm.revertToState(snapshot);
            }
        }
    }

    function test_roles__the_deployer__has_none_left() public view {
        address deployer = vm.computeCreateAddress(address(this), 1);
        (bool admin,) = access.hasRole(0, deployer);
        assertFalse(admin);
        (bool governs, uint32 delay) = access.hasRole(0, address(timelock));
        assertTrue(governs);
        assertEq(delay, 1_000);
    }

    function test_timelock__role_change__waits_longer_than_unbonding() public {
        bytes memory grant = abi.encodeCall(access.grantRole, (1, payer, 0));
        vm.startPrank(address(timelock));
        vm.expectRevert();
        access.execute(address(access), grant);
        access.schedule(address(access), grant, 0);
        skip(staking.unbondingPeriod() - 1);
        vm.expectRevert();
        access.execute(address(access), grant);
        skip(1);
        access.execute(address(access), grant);
        vm.stopPrank();
        (bool member,) = access.hasRole(1, payer);
        assertTrue(member);
    }

    function test_timelock__parameters__wait_its_own_delay() public {
        bytes memory call = abi.encodeCall(rewards.setEmission, (1));
        timelock.schedule(address(rewards), 0, call, 0, 0, 10);
        vm.expectRevert();
        timelock.execute(address(rewards), 0, call, 0, 0);
        skip(10);
        timelock.execute(address(rewards), 0, call, 0, 0);
    }
}
